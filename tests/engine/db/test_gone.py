"""A server that is gone and comes back, or is lost in the middle of a commit."""

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from sqlalchemy import Connection

from engine.db import commands, hosts, opening
from engine.db.database import Database
from engine.db.secrets import Key
from protocol.errors import DatabaseGone
from tests.engine.db.proxy import Loss, Proxy, proxied
from tests.engine.db.things import added_command, added_host, new_id
from tests.postgres import Postgres, name_of, postgres

LIMIT = 60  # seconds


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """That may be stopped."""
    with postgres() as made:
        yield made


@pytest.fixture
def url(server: Postgres) -> Iterator[str]:
    made = server.new_database()
    yield made
    server.drop(made)


@asynccontextmanager
async def through(server: Postgres, url: str, key: Key) -> AsyncIterator[tuple[Database, Proxy]]:
    async with (
        proxied(server.folder) as proxy,
        Database.opened(proxy.url(url), key=key, patience=1) as db,
    ):
        yield db, proxy


async def test_calls_wait_for_a_server_that_is_started_again(
    server: Postgres, url: str, key: Key
) -> None:
    async with Database.opened(url, key=key, patience=LIMIT) as db:
        await db.read(hosts.count)
        server.stop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(db.read, hosts.count)
            for _ in range(3):
                nursery.start_soon(db.write, added_host)
            await trio.testing.wait_all_tasks_blocked(opening.AGAIN / 4)
            server.start()
        assert await db.read(hosts.count) == 3


@pytest.mark.parametrize("signal", ["stop", "kill"])
async def test_a_server_that_stays_away_is_gone_after_the_patience(
    server: Postgres, url: str, key: Key, signal: str
) -> None:
    async with Database.opened(url, key=key, patience=0.2) as db:
        await db.write(added_host)
        getattr(server, signal)()
        try:
            for call in (lambda: db.read(hosts.count), lambda: db.write(added_host)):
                with pytest.raises(DatabaseGone):
                    await call()
        finally:
            server.start()
        assert await db.read(hosts.count, patience=LIMIT) == 1
        await db.write(added_host)


async def test_a_server_that_is_not_there_is_told_when_a_database_is_opened(
    server: Postgres, url: str, key: Key
) -> None:
    server.stop()
    try:
        with pytest.raises(DatabaseGone, match=r"No such file|refused"):
            async with Database.opened(url, key=key, patience=0.2):
                raise AssertionError
    finally:
        server.start()


async def test_a_server_that_hangs_is_cut_off(server: Postgres, url: str, key: Key) -> None:
    async with Database.opened(url, key=key, patience=0) as db:
        await db.read(hosts.count)
        await db.write(added_host)
        db.calls.limit = 0.5
        server.freeze()
        try:
            with trio.fail_after(LIMIT):
                for call in (lambda: db.read(hosts.count), lambda: db.write(added_host)):
                    with pytest.raises(DatabaseGone):
                        await call()
        finally:
            server.freeze(go_on=True)
        db.calls.limit = LIMIT
        assert await db.read(hosts.count, patience=LIMIT) == 1


async def test_the_lock_of_the_engine_is_taken_again_from_a_new_server(
    server: Postgres, url: str, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "LOOK", 0.05)
    async with Database.opened(url, key=key, patience=LIMIT) as db:
        server.kill()
        server.start()
        await db.write(added_host)
        with trio.fail_after(LIMIT), server.connected("postgres") as c:
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            while c.execute(held).fetchall() != [(1,)]:  # noqa: ASYNC110
                await trio.sleep(0.02)


# --- in the middle of a commit ------------------------------------------------------------------


@pytest.mark.parametrize("loses", [["before"], ["after"], ["before", "after"], ["after", "before"]])
async def test_a_commit_whose_answer_is_lost_is_done_once(
    server: Postgres, url: str, key: Key, loses: list[Loss]
) -> None:
    async with through(server, url, key) as (db, proxy):
        row = await db.write(added_command)
        proxy.loses = list(loses)
        expected = list(loses)
        made = await db.write(lambda c: added_host(c, name="once"), patience=LIMIT)
        assert proxy.lost == expected[: len(proxy.lost)]
        assert proxy.lost
        assert [one.id for one in await db.read(hosts.all_hosts)] == [made.id]
        # What came after it is not taken for it.
        await db.write(lambda c: commands.note(c, row.id, {"x": 1}, at=2.0))
        await db.write(lambda c: commands.note(c, row.id, {"y": 1}, at=2.0))
        assert (await db.read(lambda c: commands.get(c, row.id))).facts == {"x": 1, "y": 1}


async def test_a_commit_that_hangs_is_cut_off_and_done_once(
    server: Postgres, url: str, key: Key
) -> None:
    async with through(server, url, key) as (db, proxy):
        db.calls.limit = 0.5
        proxy.loses = ["silence"]
        await db.write(lambda c: added_host(c, name="once"), patience=LIMIT)
        assert proxy.lost == ["silence"]
        assert await db.read(hosts.count) == 1


@pytest.mark.parametrize("loss", ["before", "after"])
async def test_a_write_whose_end_is_unknown_waits_longer_than_its_patience(
    server: Postgres, url: str, key: Key, loss: Loss
) -> None:
    """So that "the database is gone" always means that nothing was done."""
    async with through(server, url, key) as (db, proxy), trio.open_nursery() as nursery:
        proxy.loses = [loss]

        async def go_down() -> None:
            while not proxy.lost:  # noqa: ASYNC110
                await trio.sleep(0.001)
            proxy.down = True
            await trio.sleep(1.5)  # longer than the patience
            proxy.down = False

        nursery.start_soon(go_down)
        with trio.fail_after(LIMIT):
            await db.write(lambda c: added_host(c, name="once"), patience=0.5)
        assert proxy.lost == [loss]
        assert await db.read(hosts.count, patience=LIMIT) == 1


async def test_a_connection_that_is_lost_before_the_commit_is_no_matter(
    server: Postgres, url: str, key: Key
) -> None:
    async with through(server, url, key) as (db, proxy):
        for _ in range(5):
            proxy.cut()
            await db.write(added_host, patience=math.inf)
            proxy.cut()
            await db.read(hosts.count, patience=LIMIT)
        assert await db.read(hosts.count, patience=LIMIT) == 5


async def test_two_writers_past_each_other_are_repeated(
    server: Postgres, url: str, key: Key
) -> None:
    """A person changes the row that we change: ours is done again on what it is then."""
    async with Database.opened(url, key=key) as db:
        row = await db.write(added_command)
        met: list[int] = []

        def work(c: Connection) -> None:
            found = commands.get(c, row.id)
            met.append(len(found.facts))
            if len(met) == 1:
                with server.connected(name_of(url)) as other:
                    other.execute("UPDATE commands SET facts = '{\"by hand\": 1}'")
            commands.note(c, row.id, {"ours": 1}, at=3.0)

        await db.write(work)
        assert met == [0, 1]
        facts = (await db.read(lambda c: commands.get(c, row.id))).facts
        assert facts == {"by hand": 1, "ours": 1}


async def test_what_is_not_a_matter_of_time_is_raised_at_once(
    server: Postgres, url: str, key: Key
) -> None:
    nothing: dict[str, int] = {}
    async with Database.opened(url, key=key, patience=math.inf) as db:
        with pytest.raises(KeyError):
            await db.write(lambda c: nothing[new_id()])
        with pytest.raises(Exception, match="syntax error"):
            await db.read(lambda c: c.exec_driver_sql("SELEKT"))
