"""Locks: in one order, between tasks and processes, kept by who inherited them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trio

from endpoints import disk, locks
from endpoints.locks import Deadlock, Lock, Mode, held, ordered, try_acquire
from endpoints.url import PathUrl
from leases import range_lock
from processes import host_file
from protocol.errors import AcquireLockFailure, ReleaseLockFailure
from tests.servers import WAIT, ended

SHARED, EXCLUSIVE = Mode.SHARED, Mode.EXCLUSIVE


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of this test alone."""
    place = tmp_path / "lock"
    place.mkdir()
    monkeypatch.setattr(host_file, "FOLDER", str(place))
    return place


def lock(name: str, mode: Mode = EXCLUSIVE, namespace: str = "test") -> Lock:
    return Lock(namespace, name, mode)


def is_free(*wanted: Lock) -> bool:
    """Whether somebody else could have all of them now."""
    fd = host_file.opened(locks.NAME)
    try:
        return all(try_acquire(fd, one) for one in wanted)
    finally:
        os.close(fd)


HOLDER = """
import os, sys, trio
from processes import host_file
from endpoints.locks import Lock, Mode, held
host_file.FOLDER = sys.argv[1]
async def main():
    wanted = Lock("test", sys.argv[2], Mode[sys.argv[3]])
    async with held([wanted], lambda lock: print("waiting", flush=True)):
        print("held", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
trio.run(main)
"""


@contextmanager
def holder(name: str, mode: Mode = EXCLUSIVE) -> Iterator[subprocess.Popen[str]]:
    """Another process that takes the lock and keeps it until it reads a line."""
    argv = [sys.executable, "-c", HOLDER, host_file.FOLDER, name, mode.name]
    process = subprocess.Popen(
        argv,
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


# --- the order --------------------------------------------------------------------------------


def test_locks_are_taken_in_one_order_and_each_once() -> None:
    one = [lock("b"), lock("a", SHARED), lock("b"), lock("c", EXCLUSIVE, "domain")]
    assert ordered(one) == [lock("c", EXCLUSIVE, "domain"), lock("a", SHARED), lock("b")]
    assert ordered(reversed(one)) == ordered(one)
    assert ordered([]) == []


def test_one_lock_in_two_modes_is_a_programming_error() -> None:
    with pytest.raises(Deadlock):
        ordered([lock("a", SHARED), lock("b"), lock("a", EXCLUSIVE)])
    ordered([lock("a", SHARED), lock("a", EXCLUSIVE, "other")])


async def test_a_programming_error_takes_nothing() -> None:
    with pytest.raises(Deadlock):
        async with held([lock("a", SHARED), lock("b"), lock("a")]):
            pass
    assert is_free(lock("a"), lock("b"))


def test_a_name_in_two_namespaces_is_two_locks() -> None:
    assert lock("a").offset != lock("a", namespace="other").offset
    assert lock("a").offset == lock("a", SHARED).offset
    assert Lock("a\0b", "c", SHARED) != Lock("a", "b\0c", SHARED)
    assert all(0 <= lock(str(n)).offset < 1 << 62 for n in range(1000))


# --- in one process ---------------------------------------------------------------------------


async def test_locks_are_held_for_the_body_and_free_after_it() -> None:
    wanted = [lock("a"), lock("b", SHARED)]
    async with held(wanted):
        assert not is_free(lock("a"))
        assert not is_free(lock("b"))
        assert is_free(lock("b", SHARED))
        assert is_free(lock("c"))
    assert is_free(lock("a"), lock("b"))


async def test_locks_are_free_after_a_body_that_raised() -> None:
    async def body() -> None:
        async with held([lock("a")]):
            raise KeyError

    with pytest.raises(KeyError):
        await body()
    assert is_free(lock("a"))


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        (EXCLUSIVE, EXCLUSIVE, True),
        (EXCLUSIVE, SHARED, True),
        (SHARED, EXCLUSIVE, True),
        (SHARED, SHARED, False),
    ],
)
async def test_two_tasks_of_a_process_exclude_each_other(
    first: Mode, second: Mode, waits: bool
) -> None:
    steps: list[str] = []
    waiting, done = trio.Event(), trio.Event()

    async def other() -> None:
        async with held([lock("a", second)], lambda _: waiting.set()):
            steps.append("other")
        done.set()

    with trio.fail_after(WAIT):
        async with trio.open_nursery() as nursery, held([lock("a", first)]):
            nursery.start_soon(other)
            await (waiting if waits else done).wait()
            steps.append("ours ends")
    assert steps == (["ours ends", "other"] if waits else ["other", "ours ends"])


async def test_two_that_want_two_locks_in_opposite_order_both_get_them() -> None:
    done: list[int] = []

    async def worker(number: int, wanted: list[Lock]) -> None:
        for _ in range(20):
            async with held(wanted):
                await trio.lowlevel.checkpoint()
        done.append(number)

    with trio.fail_after(WAIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker, 1, [lock("a"), lock("b")])
            nursery.start_soon(worker, 2, [lock("b"), lock("a")])
    assert sorted(done) == [1, 2]


async def test_who_gives_up_waiting_leaves_nothing() -> None:
    before = os.listdir("/proc/self/fd")
    waited: list[Lock] = []
    async with held([lock("b")]):
        with trio.CancelScope() as scope:

            def waiting(wanted: Lock) -> None:
                waited.append(wanted)
                scope.cancel()

            async with held([lock("a"), lock("b"), lock("c")], waiting):
                pytest.fail("it was not free")
        assert scope.cancelled_caught
        assert waited == [lock("b")]
        assert is_free(lock("a"), lock("c"))
    assert is_free(lock("b"))
    assert len(os.listdir("/proc/self/fd")) == len(before)


# --- between processes ------------------------------------------------------------------------


async def test_another_process_waits_and_gets_the_lock_when_we_are_done() -> None:
    with ExitStack() as stack:
        async with held([lock("a")]):
            other = stack.enter_context(holder("a"))
            assert said(other) == "waiting"
        lines = iter(lambda: said(other), "held")
        assert set(lines) <= {"waiting"}
        assert not is_free(lock("a"))


async def test_two_processes_share_a_shared_lock() -> None:
    with holder("a", SHARED) as other:
        assert said(other) == "held"
        assert is_free(lock("a", SHARED))
        assert not is_free(lock("a"))


async def test_a_lock_is_free_when_its_holder_was_killed() -> None:
    with holder("a") as other:
        assert said(other) == "held"
        assert not is_free(lock("a"))
        other.kill()
        assert ended(other.pid)
        assert is_free(lock("a"))


async def test_a_child_that_inherited_a_lock_keeps_it_after_its_parent() -> None:
    """A copy tool whose worker was killed keeps its target locked for as long as it writes."""
    child: list[subprocess.Popen[bytes]] = []

    async def body() -> None:
        async with held([lock("a")]) as fd:
            child.append(subprocess.Popen(["sleep", "1000000"], pass_fds=[fd]))
            raise KeyError

    try:
        with pytest.raises(KeyError):
            await body()
        assert not is_free(lock("a"))
    finally:
        child[0].kill()
        child[0].wait()
    assert is_free(lock("a"))


async def test_a_child_that_did_not_inherit_a_lock_does_not_keep_it() -> None:
    async with held([lock("a")]):
        child = subprocess.Popen(["sleep", "1000000"])
    try:
        assert is_free(lock("a"))
    finally:
        child.kill()
        child.wait()


# --- errors -----------------------------------------------------------------------------------


def broken(fd: int, start: int, length: int) -> None:
    raise OSError(37, "No locks available")


async def test_a_release_that_fails_after_success_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(range_lock, "unlock", broken)
    with pytest.raises(ReleaseLockFailure, match="test a: No locks available"):
        async with held([lock("a")]):
            pass
    assert is_free(lock("a"))  # the kernel drops it with the descriptor


async def test_a_body_that_fails_wins_over_a_release_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def body() -> None:
        async with held([lock("a")]):
            raise KeyError

    monkeypatch.setattr(range_lock, "unlock", broken)
    with pytest.raises(KeyError):
        await body()


async def test_the_lock_file_may_be_used_by_every_user(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        async with held([lock("a")]):
            assert (folder / locks.NAME).stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


@pytest.mark.parametrize("kind", ["link", "folder", "fifo", "missing folder"])
async def test_a_lock_file_that_is_none_is_refused(folder: Path, kind: str) -> None:
    """Anybody may write into its folder: what lies there is not followed, nor waited for."""
    path = folder / locks.NAME
    if kind == "link":
        (folder / "other").touch()
        path.symlink_to(folder / "other")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        folder.rmdir()
    before = os.listdir("/proc/self/fd")
    with trio.fail_after(WAIT), pytest.raises(AcquireLockFailure):
        async with held([lock("a")]):
            pass
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_two_processes_that_make_the_file_at_once_use_the_same(folder: Path) -> None:
    with holder("a", SHARED) as one, holder("b", SHARED) as other:
        assert {said(one), said(other)} == {"held"}
        assert not is_free(lock("a"))
        assert not is_free(lock("b"))
    assert [path.name for path in folder.iterdir()] == [locks.NAME]


# --- what is locked ---------------------------------------------------------------------------


def names(path: Path) -> set[str]:
    return {lock.name for lock in disk.locks(PathUrl(str(path)), EXCLUSIVE)}


def test_a_file_and_its_links_have_a_lock_in_common(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    (tmp_path / "symbolic").symlink_to(file)
    (tmp_path / "hard").hardlink_to(file)
    (tmp_path / "other").touch()
    assert names(tmp_path / "symbolic") == names(file)
    assert names(tmp_path / "hard") & names(file)
    assert names(tmp_path / "other").isdisjoint(names(file))


async def test_a_hard_link_waits_for_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "hard").hardlink_to(tmp_path / "file")
    async with held(disk.locks(PathUrl(f"{tmp_path}/file"), EXCLUSIVE)):
        assert not is_free(*disk.locks(PathUrl(f"{tmp_path}/hard"), SHARED))


def test_a_missing_file_is_locked_by_where_it_will_be(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    assert names(tmp_path / "link") == names(tmp_path / "missing")
    before = names(tmp_path / "missing")
    (tmp_path / "missing").touch()
    assert before < names(tmp_path / "missing")


async def test_a_lock_file_that_was_replaced_is_noticed(folder: Path) -> None:
    """Else those who hold the old file and those who open the new one would not see each other."""
    waiting = trio.Event()
    got: list[os.stat_result] = []

    async def second() -> None:
        async with held([lock("a")], lambda _: waiting.set()) as fd:
            got.append(os.fstat(fd))

    async with trio.open_nursery() as nursery, held([lock("a")]):
        nursery.start_soon(second)
        with trio.fail_after(WAIT):
            await waiting.wait()
        (folder / locks.NAME).unlink()
    assert os.path.samestat(got[0], (folder / locks.NAME).stat())
