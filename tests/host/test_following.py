"""Following a worker: only its ending or its death is the end of its job."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from host import talk
from host.folder import Ending, Folder
from host.following import Watcher, followed
from jobs.progress import Progress
from tests.host.test_folder import DONE, FAILED, spec

TIME = 10.0


class Fake:
    """A worker in this process. reports: what its follower took from it."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        lock = folder.lock()
        assert lock is not None
        self._lock = lock
        listener = socket.socket(socket.AF_UNIX)
        directory = os.open(folder.path, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{directory}/{folder.socket.name}")  # a short name
        os.close(directory)
        listener.listen(1)
        self._server = trio.socket.from_stdlib_socket(listener)
        self._streams: list[trio.SocketStream] = []
        self.reports: list[Progress] = []
        self.aborting = 0

    @property
    def watcher(self) -> Watcher:
        def aborting() -> None:
            self.aborting += 1

        return Watcher(self.reports.append, aborting)

    async def accepted(self) -> trio.SocketStream:
        connection, _ = await self._server.accept()
        self._streams.append(trio.SocketStream(connection))
        return self._streams[-1]

    def die(self) -> None:
        for stream in self._streams:
            stream.socket.close()
        self._server.close()
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[Fake]:
    wanted = spec()
    folder = Folder(tmp_path / str(wanted.job_id))
    folder.path.mkdir()
    folder.write(wanted)
    made = Fake(folder)
    yield made
    made.die()


async def ending_of(fake: Fake, *, abort: bool = False) -> Ending | None:
    with trio.fail_after(TIME):
        return await followed(fake.folder, fake.watcher, abort=abort)


def told(status: str, ending: Ending | None = None, **progress: float) -> bytes:
    return talk.line(talk.State(status=status, progress=Progress(**progress), ending=ending))  # type: ignore[arg-type]


async def test_progress_and_ending_are_told(fake: Fake, nursery: trio.Nursery) -> None:
    async def work() -> None:
        stream = await fake.accepted()
        await stream.send_all(told("running", bytes=1) + told("running", bytes=2))
        await stream.send_all(told("done", DONE, bytes=3))

    nursery.start_soon(work)
    assert await ending_of(fake) == DONE
    assert [one.bytes for one in fake.reports] == [1, 2, 3]
    assert not fake.aborting


async def test_an_abort_is_passed_on(fake: Fake, nursery: trio.Nursery) -> None:
    async def work() -> None:
        stream = await fake.accepted()
        async for line in talk.Lines(stream):
            assert line == b'{"do":"abort"}'
            await stream.send_all(told("done", DONE))

    nursery.start_soon(work)
    assert await ending_of(fake, abort=True) == DONE


async def test_an_abort_that_somebody_else_asked_for_is_seen(
    fake: Fake, nursery: trio.Nursery
) -> None:
    async def work() -> None:
        stream = await fake.accepted()
        await stream.send_all(told("aborting") + told("failed", FAILED))

    nursery.start_soon(work)
    assert await ending_of(fake) == FAILED
    assert fake.aborting == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\n",
        b"{\n",
        b"\xff\xfe\n",
        b'{"status": 1}\n',
        b'{"status":"running","progress":{"bytes":"many"}}\n',
        b'{"status":"done","progress":{},"ending":{"status":"undone","ended":1}}\n',
        b"x" * (talk.LINE_LIMIT + (talk.CHUNK << 1)),
        b'{"status":"running"',
    ],
)
async def test_nonsense_is_not_the_end_and_the_worker_is_asked_again(
    fake: Fake, nonsense: bytes, nursery: trio.Nursery
) -> None:
    async def work() -> None:
        stream = await fake.accepted()
        with suppress(trio.BrokenResourceError):
            await stream.send_all(nonsense)
        await stream.aclose()
        again = await fake.accepted()
        await again.send_all(told("done", DONE))

    nursery.start_soon(work)
    assert await ending_of(fake) == DONE


async def test_a_worker_that_died_without_an_ending_has_none(fake: Fake) -> None:
    fake.die()
    assert await ending_of(fake) is None


async def test_an_ending_that_was_written_but_not_told_is_found(fake: Fake) -> None:
    fake.folder.end(DONE)
    fake.die()
    assert await ending_of(fake) == DONE


async def test_an_ending_that_cannot_be_read_is_none(fake: Fake) -> None:
    (fake.folder.path / "ending").write_bytes(b"{")
    fake.die()
    assert await ending_of(fake) is None


async def test_a_job_that_was_never_begun_has_no_ending(tmp_path: Path) -> None:
    with trio.fail_after(TIME):
        assert await followed(Folder(tmp_path), Watcher(print, print)) is None


async def test_a_worker_that_does_not_answer_is_waited_for(
    fake: Fake, nursery: trio.Nursery
) -> None:
    """It is stopped, say: connections are taken by the kernel, and nobody speaks."""
    got: list[Ending | None] = []

    async def follow() -> None:
        got.append(await ending_of(fake, abort=True))

    nursery.start_soon(follow)
    await trio.sleep(0.3)
    assert got == []
    fake.folder.end(FAILED)
    fake.die()
    with trio.fail_after(TIME):
        while not got:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert got == [FAILED]


async def test_a_worker_whose_socket_takes_nobody_in_is_waited_for(
    fake: Fake, nursery: trio.Nursery
) -> None:
    fillers = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        try:
            directory = os.open(fake.folder.path, os.O_RDONLY)
            filler.connect(f"/proc/self/fd/{directory}/{fake.folder.socket.name}")
            os.close(directory)
        except BlockingIOError:
            break
    nursery.start_soon(die_later, fake)
    assert await ending_of(fake) == DONE
    for filler in fillers:
        filler.close()


async def die_later(fake: Fake) -> None:
    await trio.sleep(0.2)
    fake.folder.end(DONE)
    fake.die()


async def test_trouble_of_the_agent_is_not_the_end_of_the_job(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """It has too many open files, say."""
    tries = 0

    def full(*arguments: object, **options: object) -> int:
        nonlocal tries
        tries += 1
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("host.following.os.open", full)
    got: list[Ending | None] = []

    async def follow() -> None:
        got.append(await ending_of(fake))

    nursery.start_soon(follow)
    with trio.fail_after(TIME):
        while tries < 3:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert got == []
    monkeypatch.undo()
    await die_later(fake)
    with trio.fail_after(TIME):
        while not got:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert got == [DONE]


async def test_the_end_of_the_agent_ends_the_following(fake: Fake) -> None:
    with trio.move_on_after(0.1) as scope:
        await followed(fake.folder, fake.watcher)
    assert scope.cancelled_caught
    assert fake.folder.alive
