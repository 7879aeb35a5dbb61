"""One engine has a database. The second is refused, or stands by; one that lost it stops."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio
from sqlalchemy import Connection, text

from engine.db import connecting, hosts, only_one, opening
from engine.db.address import parsed
from engine.db.calls import Call
from engine.db.database import Database
from engine.db.secrets import Key, key_of
from protocol.errors import EngineBusy
from tests.engine.db.things import added_host
from tests.postgres import Postgres, name_of

ROOT = Path(__file__).parents[3]
LIMIT = 60  # seconds


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LOOK", 0.05)
    monkeypatch.setattr(opening, "STANDBY", 0.05)
    monkeypatch.setattr(opening, "LINGER", 0.05)
    monkeypatch.setattr(opening, "AGAIN", 0.02)


@contextmanager
def other_engine(url: str, key: Path) -> Iterator["subprocess.Popen[str]"]:
    """In a process of its own, that has the database."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.engine.db.child", "hold", url, str(key)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    key_of(tmp_path / "engine.key")
    return tmp_path / "engine.key"


async def test_a_second_engine_is_refused_and_told_who_has_it(
    database_url: str, key_file: Path, quick: None
) -> None:
    with other_engine(database_url, key_file) as process:
        told = f"process {process.pid}"
        with pytest.raises(EngineBusy, match=told):
            async with Database.opened(database_url, key=key_of(key_file)):
                raise AssertionError
    async with Database.opened(database_url, key=key_of(key_file), standby=True) as db:
        assert await db.read(hosts.count) == 1


async def test_one_process_has_it_once(database_url: str, key: Key, quick: None) -> None:
    async with Database.opened(database_url, key=key) as db:
        with pytest.raises(EngineBusy, match=f"process {os.getpid()}"):
            async with Database.opened(database_url, key=key):
                raise AssertionError
        await db.write(added_host)


async def test_a_second_engine_stands_by_until_the_first_was_killed(
    database_url: str, key_file: Path, quick: None
) -> None:
    with other_engine(database_url, key_file) as process:
        opened = trio.Event()

        async def stand_by() -> None:
            async with Database.opened(database_url, key=key_of(key_file), standby=True) as db:
                opened.set()
                await db.write(added_host)
                assert await db.read(hosts.count) == 2

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stand_by)
            with trio.move_on_after(0.3):
                await opened.wait()
            assert not opened.is_set()
            process.send_signal(signal.SIGKILL)
            with trio.fail_after(LIMIT):
                await opened.wait()


async def test_an_engine_that_stands_by_says_so_once(
    database_url: str,
    key: Key,
    quick: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO")
    stands_by = "this one stands by"
    looks = 0

    async def stand_by() -> None:
        async with second:
            raise AssertionError("two engines have one database")

    async with Database.opened(database_url, key=key):
        waiting = Database(parsed(database_url), key, readers=1, patience=5.0)
        taken = waiting.lock.taken

        def counted(call: Call) -> bool:
            nonlocal looks
            looks += 1
            return taken(call)

        monkeypatch.setattr(waiting.lock, "taken", counted)
        second = opening.opened(waiting, standby=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stand_by)
            with trio.fail_after(LIMIT):
                while looks < 4:  # noqa: ASYNC110 - of a thread
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
    assert caplog.text.count(stands_by) == 1


async def test_an_engine_waits_until_the_server_sees_that_the_one_before_was_killed(
    postgres_server: Postgres, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No standby: it is the same engine, started anew at once."""
    caplog.set_level("INFO")
    url = postgres_server.new_database()
    with other_engine(url, key_file) as process, postgres_server.connected(name_of(url)) as c:
        (row,) = c.execute(HOLDS).fetchall()
        os.kill(row[0], signal.SIGSTOP)  # the session: its end is not seen
        try:
            process.kill()
            process.wait()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(go_on_after, caplog, "whether it has gone", row[0])
                with trio.fail_after(LIMIT):
                    async with Database.opened(url, key=key_of(key_file)) as db:
                        assert await db.read(hosts.count) == 1
        finally:
            with suppress(ProcessLookupError):
                os.kill(row[0], signal.SIGCONT)
    assert caplog.text.count("whether it has gone") == 1
    postgres_server.drop(url)


async def go_on_after(caplog: pytest.LogCaptureFixture, said: str, pid: int) -> None:
    while said not in caplog.text:  # noqa: ASYNC110 - a log tells no event
        await trio.sleep(0.02)
    os.kill(pid, signal.SIGCONT)


HOLDS = """
SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def test_a_process_that_an_engine_started_does_not_keep_it(tmp_path: Path, key: Key) -> None:
    url = f"sqlite:///{tmp_path}/engine.sqlite"
    async with Database.opened(url, key=key):
        child = subprocess.Popen(["/bin/sleep", "600"], close_fds=False)
    try:
        async with Database.opened(url, key=key):
            pass
    finally:
        child.kill()
        child.wait()


async def test_a_file_under_another_name_is_the_same_database(tmp_path: Path, key: Key) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "link.sqlite").symlink_to("real/engine.sqlite")
    async with Database.opened(f"sqlite:///{tmp_path}/real/engine.sqlite", key=key):
        for name in ("folder/engine.sqlite", "link.sqlite"):
            with pytest.raises(EngineBusy):
                async with Database.opened(f"sqlite:///{tmp_path}/{name}", key=key):
                    raise AssertionError


async def test_an_engine_whose_database_was_taken_cannot_write_and_stops(
    database_url: str, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it came about: its lock is not what counts."""
    monkeypatch.setattr(opening, "LOOK", 1000.0)  # it is the write that notices
    ended: list[str] = []

    async def run() -> None:
        async with Database.opened(database_url, key=key) as db:
            await db.write(lambda c: only_one.hold(c, "x", "another, process 1"))
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep_forever)
                    nursery.start_soon(refused, db)
            finally:
                ended.append("body")

    async def refused(db: Database) -> None:
        with pytest.raises(EngineBusy):
            await db.write(added_host)

    with pytest.raises(EngineBusy, match="another, process 1"), trio.fail_after(LIMIT):
        await run()
    assert ended == ["body"]
    async with Database.opened(database_url, key=key) as db:
        assert await db.read(hosts.count) == 0


def test_an_engine_with_tasks_of_its_own_says_whose_the_database_is(
    tmp_path: Path, key: Key
) -> None:
    """In a run as that of the command: pytest's takes groups of exceptions apart."""

    async def run() -> None:
        async with (
            Database.opened(f"sqlite:///{tmp_path}/engine.sqlite", key=key) as db,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(trio.sleep_forever)
            db.lose(EngineBusy("another, process 1"))
            await trio.sleep_forever()

    with pytest.raises(EngineBusy, match="another, process 1"):
        trio.run(run)


async def test_an_engine_that_does_not_write_sees_it_too(
    database_url: str, key: Key, quick: None
) -> None:
    async def run() -> None:
        async with Database.opened(database_url, key=key):
            url = parsed(database_url)
            engine = connecting.writing(url, key)
            with engine.begin() as c:
                only_one.hold(c, "x", "another, process 1")
            engine.dispose()
            await trio.sleep_forever()

    with pytest.raises(EngineBusy, match="another, process 1"), trio.fail_after(LIMIT):
        await run()


async def test_an_engine_whose_lock_is_lost_takes_it_again_at_once(
    postgres_server: Postgres, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before an engine that is just started can: it would not know that there is another."""
    monkeypatch.setattr(opening, "LOOK", 1000.0)
    url = postgres_server.new_database()
    async with Database.opened(url, key=key):
        with postgres_server.connected(name_of(url)) as c, trio.fail_after(LIMIT):
            (first,) = c.execute(HOLDS).fetchall()
            c.execute(LOSE)
            while (held := c.execute(HOLDS).fetchall()) in ([], [first]):  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert len(held) == 1
    postgres_server.drop(url)


async def test_an_engine_sees_that_its_lock_went_to_another(
    postgres_server: Postgres, key: Key, quick: None
) -> None:
    """The connection of the lock is lost, and a standby is faster than we."""
    url = postgres_server.new_database()
    stands_by, got_it = trio.Event(), trio.Event()

    async def have_it() -> None:
        async with Database.opened(url, key=key, patience=5):
            stands_by.set()
            await trio.sleep_forever()

    async def first() -> None:
        with pytest.raises(EngineBusy, match="process"):
            await have_it()
        nursery.cancel_scope.cancel()

    async def second() -> None:
        await stands_by.wait()
        async with Database.opened(url, key=key, standby=True, patience=5):
            got_it.set()
            await trio.sleep_forever()

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            nursery.start_soon(second)
            with postgres_server.connected(name_of(url)) as c:
                while not got_it.is_set():  # until it is the faster one
                    c.execute(LOSE)
                    await trio.sleep(0.03)
    postgres_server.drop(url)


LOSE = """
SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def test_a_lock_that_is_lost_and_free_is_taken_again(
    postgres_server: Postgres, key: Key, quick: None
) -> None:
    url = postgres_server.new_database()
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    try:
        async with Database.opened(url, key=key) as db:
            with postgres_server.connected(name_of(url)) as c, trio.fail_after(LIMIT):
                c.execute(LOSE)
                while c.execute(held).fetchall() == [(0,)]:  # noqa: ASYNC110
                    await trio.sleep(0.02)
            await db.write(added_host)
    finally:
        postgres_server.drop(url)


async def test_a_database_of_another_encoding_is_refused(
    postgres_server: Postgres, key: Key
) -> None:
    url = postgres_server.new_database("SQL_ASCII")
    try:
        with pytest.raises(Exception, match="encoding is SQL_ASCII"):
            async with Database.opened(url, key=key):
                raise AssertionError
    finally:
        postgres_server.drop(url)


async def test_the_row_of_the_holder_is_one(database_url: str, key: Key) -> None:
    for _ in range(3):
        async with Database.opened(database_url, key=key) as db:
            await db.write(added_host)

            def count(c: Connection) -> int:
                found: int = c.execute(text("SELECT count(*) FROM holder")).scalar_one()
                return found

            assert await db.read(count) == 1
