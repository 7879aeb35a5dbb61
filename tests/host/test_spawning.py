"""The warm parent and what it forks: a process of its own that holds nothing but its own."""

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from host import spawning
from host.folder import Folder
from host.following import connected
from host.spawning import Spawner, spawner
from protocol.errors import WorkerNotStarted
from protocol.record import JobStatus
from tests.faults.agents import comm, holder
from tests.faults.command import children, seen
from tests.host.jobs import SLOW, Place
from tests.host.test_folder import DONE
from tests.servers import LOOK, WAIT, until, users

pytestmark = pytest.mark.tools("qemu-img")
TARGETS = "/run/lock/leasehold.targets"


@pytest.fixture
async def warm() -> AsyncIterator[Spawner]:
    async with spawner() as made:
        await made.warm()
        yield made


async def slow(place: Place) -> Folder:
    """A job that takes longer than any test."""
    return place.journal.add(await place.spec(limit=SLOW))


def worker_of(folder: Folder) -> int:
    return holder(folder.path / "lock")


async def copying(place: Place, folder: Folder) -> int:
    """Wait until its tool copies; the process of the worker."""
    with trio.fail_after(WAIT):
        while not users(place.target(folder.job_id)):  # noqa: ASYNC110
            await trio.sleep(LOOK)
    return worker_of(folder)


async def over(folder: Folder) -> None:
    """Wait until the worker is gone."""
    await until(lambda: not folder.alive)


async def gone(*pids: int) -> None:
    with trio.fail_after(WAIT):
        while any(seen(pid) for pid in pids):  # noqa: ASYNC110
            await trio.sleep(LOOK)


async def kill(folder: Folder, pid: int) -> None:
    tools = children(pid)
    os.kill(pid, signal.SIGKILL)
    await gone(pid, *tools)
    assert not folder.alive


def descriptors(pid: int) -> dict[int, str]:
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
    return found


def status(pid: int, key: str) -> str:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.startswith(f"{key}:"))


async def test_the_warm_parent_has_nothing_of_the_agent(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its descriptors, even those that can be inherited, nor threads, nor its terminal."""
    secret, listener = os.open("/dev/null", os.O_RDONLY), socket.create_server(("127.0.0.1", 0))
    os.set_inheritable(secret, True)
    listener.set_inheritable(True)
    async with spawner() as warm:
        await warm.warm()
        pid = warm.pid
        assert pid is not None
        held = descriptors(pid)
        os.close(secret)
        listener.close()
        assert len(held) == 4, held
        assert held[0] == held[1] == "/dev/null"
        assert held[2] == os.readlink("/proc/self/fd/2")
        assert [one.startswith("socket:") for fd, one in held.items() if fd > 2] == [True]
        assert comm(pid) == "leasehold-spawn"
        assert os.listdir(f"/proc/{pid}/task") == [str(pid)]
        assert os.getsid(pid) == pid
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        umask = os.umask(0o22)
        os.umask(umask)
        assert int(status(pid, "Umask"), 8) == umask


async def test_a_worker_has_its_own_and_its_tool_has_neither_lock_nor_socket(
    place: Place, warm: Spawner
) -> None:
    folder = await slow(place)
    await warm.start(folder)
    pid = await copying(place, folder)
    held = descriptors(pid)
    ours = [one for one in held.values() if one.startswith(str(folder.path))]
    assert ours == [str(folder.path / "lock")]
    listening = Path("/proc/net/unix").read_text().splitlines()
    inodes = {line.split()[6] for line in listening if f"/{folder.socket.name}" in line}
    packets = {f"socket:[{line.split()[6]}]" for line in listening[1:] if line.split()[4] == "0005"}
    assert warm.pid is not None
    assert not set(descriptors(warm.pid).values()) & set(ours)
    assert set(descriptors(warm.pid).values()) & packets
    assert not set(held.values()) & packets  # else nobody sees the end of the warm parent
    assert inodes
    for child in children(pid):
        assert str(folder.path / "lock") not in descriptors(child).values()
        assert not {f"socket:[{inode}]" for inode in inodes} & set(descriptors(child).values())
        assert TARGETS in descriptors(child).values()
    await kill(folder, pid)


async def test_a_worker_is_a_process_of_its_own(place: Place, warm: Spawner) -> None:
    folder = await slow(place)
    await warm.start(folder)
    pid = await copying(place, folder)
    assert os.getsid(pid) == os.getpgid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    term = 1 << (signal.SIGTERM - 1)  # blocked while it was forked, and while it forks a tool
    await until(
        lambda: not any(int(status(one, "SigBlk"), 16) & term for one in (pid, *children(pid)))
    )
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) >= 0
    await kill(folder, pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_that_is_asked_to_stop_at_once_records_it(
    place: Place, warm: Spawner, number: signal.Signals
) -> None:
    """As soon as it has a process id, before it has done anything."""
    folder = await slow(place)
    answer = await warm._asked(b"0 " + bytes(folder.path))
    os.kill(int(answer.removeprefix("started ")), number)
    await over(folder)
    ending = folder.ending()
    assert ending is not None
    assert ending.status == "aborted"


async def test_a_closed_terminal_does_not_end_a_worker(place: Place, warm: Spawner) -> None:
    folder = await slow(place)
    await warm.start(folder)
    pid = await copying(place, folder)
    os.kill(pid, signal.SIGHUP)
    await trio.sleep(0.1)
    assert folder.alive
    await kill(folder, pid)


async def test_ctrl_c_reaches_neither_warm_parent_nor_worker(place: Place, warm: Spawner) -> None:
    assert warm.pid is not None
    folder = await slow(place)
    await warm.start(folder)
    pid = await copying(place, folder)
    assert os.getpgrp() not in {os.getpgid(warm.pid), os.getpgid(pid)}
    await kill(folder, pid)


async def test_a_job_gets_one_worker(place: Place, warm: Spawner) -> None:
    folder = await slow(place)
    await warm.start(folder)
    await warm.start(folder)
    assert len([pid for pid in users(folder.path / "lock") if pid != warm.pid]) == 1
    await kill(folder, await copying(place, folder))


async def test_a_job_that_has_ended_gets_none(place: Place, warm: Spawner) -> None:
    folder = await slow(place)
    folder.end(DONE)
    await warm.start(folder)
    assert not folder.begun
    assert users(folder.path) == []


async def test_what_the_kernel_refuses_is_told(place: Place, warm: Spawner) -> None:
    folder = Folder(place.folder / "missing")
    with pytest.raises(WorkerNotStarted, match="No such file"):
        await warm.start(folder)
    await warm.start(await slow(place))  # and it is as good as before


async def test_a_warm_parent_that_died_is_replaced(place: Place, warm: Spawner) -> None:
    first = warm.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    folder = await slow(place)
    await warm.start(folder)
    assert warm.pid != first
    await kill(folder, await copying(place, folder))


async def test_a_silent_warm_parent_is_replaced(
    place: Place, warm: Spawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = warm.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    monkeypatch.setattr(spawning, "START_TIME", 2.0)
    folder = await slow(place)
    await warm.start(folder)
    await gone(first)
    await kill(folder, await copying(place, folder))


async def test_a_warm_parent_that_cannot_start_is_told_and_tried_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    async with spawner() as warm:
        await warm.warm()
        folder = await slow(place)
        with pytest.raises(WorkerNotStarted, match="has ended"):
            await warm.start(folder)
        assert not folder.begun
        monkeypatch.undo()
        await warm.start(folder)
        await kill(folder, await copying(place, folder))


async def test_workers_outlive_their_parent(place: Place) -> None:
    async with spawner() as warm:
        await warm.warm()
        parent = warm.pid
        assert parent is not None
        folder = place.journal.add(await place.spec(limit=SLOW << 2))
        await warm.start(folder)
    await gone(parent)
    assert folder.alive
    await over(folder)
    ending = folder.ending()
    assert ending is not None
    assert ending.status == "done"
    assert place.copied(folder.job_id)
    await place.assert_recorded(folder.job_id, JobStatus.SUCCEEDED)


async def test_a_worker_whatever_comes_over_its_socket_goes_on(place: Place, warm: Spawner) -> None:
    folder = place.journal.add(await place.spec(limit=SLOW << 2))
    await warm.start(folder)
    await copying(place, folder)
    nonsense = [b"", b"\n", b"{\n", b'{"do":"dance"}\n', b"\xff" * 100 + b"\n", b"x" * (3 << 20)]
    silent = []
    for words in nonsense * 4:
        client = await connected(folder)
        silent.append(client)
        try:
            await client.send_all(words)
        except trio.BrokenResourceError:
            continue
    await over(folder)
    for client in silent:
        await client.aclose()
    ending = folder.ending()
    assert ending is not None
    assert ending.status == "done"
