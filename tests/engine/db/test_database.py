"""Transactions: whole or not at all, one state for each reader, one writer after the other."""

import math
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from psycopg.sql import SQL, Identifier
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError

from engine.db import audit, commands, disks, domains, hosts, schema
from engine.db.address import parsed, shown
from engine.db.database import Database
from engine.db.domains import Domain
from engine.db.secrets import Key
from protocol.errors import BadParameter, DatabaseGone
from tests.engine.db.things import (
    added_command,
    added_disk,
    added_host,
    command,
    disk,
    domain,
    new_id,
)
from tests.postgres import Postgres, name_of

LIMIT = 20  # seconds


async def test_what_was_written_is_there_when_it_is_opened_again(
    database_url: str, key: Key
) -> None:
    async with Database.opened(database_url, key=key) as db:
        host = await db.write(added_host)
    async with Database.opened(database_url, key=key) as db:
        assert await db.read(hosts.all_hosts) == [host]


async def test_work_that_raises_leaves_nothing(db: Database) -> None:
    def work(c: Connection) -> None:
        added_host(c)
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        await db.write(work)
    assert await db.read(hosts.all_hosts) == []
    await db.write(added_host)


async def test_a_reader_sees_one_state_while_others_write(db: Database) -> None:
    looked, written = threading.Event(), threading.Event()
    seen: list[int] = []

    def work(c: Connection) -> None:
        seen.append(hosts.count(c))
        looked.set()
        assert written.wait(LIMIT)
        seen.append(hosts.count(c))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(db.read, work)
        await trio.to_thread.run_sync(looked.wait)
        await db.write(added_host)
        written.set()
    assert seen == [0, 0]
    assert await db.read(hosts.count) == 1


async def test_a_reader_cannot_write(db: Database) -> None:
    with pytest.raises(RuntimeError, match=r"a change in Database\.read"):
        await db.read(added_host)
    assert await db.read(hosts.all_hosts) == []


async def test_writers_do_not_lose_what_others_wrote(db: Database) -> None:
    row = await db.write(added_command)

    async def add(n: int) -> None:
        await db.write(lambda c: commands.note(c, row.id, {f"fact-{n}": n}, at=1.0))

    async with trio.open_nursery() as nursery:
        for n in range(50):
            nursery.start_soon(add, n)
    found = await db.read(lambda c: commands.get(c, row.id))
    assert found.facts == {f"fact-{n}": n for n in range(50)}


async def test_a_write_that_has_begun_goes_to_its_end_when_it_is_cancelled(db: Database) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work(c: Connection) -> None:
        added_host(c)
        begun.set()
        assert may_end.wait(LIMIT)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(db.write, work)
            await trio.to_thread.run_sync(begun.wait)
            scope.cancel()
            may_end.set()
    assert await db.read(hosts.count) == 1


async def test_a_write_that_waits_for_its_turn_can_be_cancelled(db: Database) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work(c: Connection) -> None:
        begun.set()
        assert may_end.wait(LIMIT)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(db.write, work)
        await trio.to_thread.run_sync(begun.wait)
        with trio.move_on_after(0.05):
            await db.write(added_host)
        with pytest.raises(DatabaseGone):
            await db.write(added_host, patience=0.05)
        may_end.set()
    await db.write(lambda c: None)
    assert await db.read(hosts.count) == 0


async def test_more_readers_than_connections_wait_for_each_other(
    database_url: str, key: Key
) -> None:
    async with Database.opened(database_url, key=key, readers=2) as db, trio.open_nursery() as all:
        for _ in range(100):
            all.start_soon(db.read, hosts.count)


async def test_a_database_that_another_program_locks_is_waited_for(
    tmp_path: Path, key: Key
) -> None:
    """A back-up, or a person with the sqlite3 command."""
    url = f"sqlite:///{tmp_path}/engine.sqlite"
    async with Database.opened(url, key=key) as db:
        other = sqlite3.connect(tmp_path / "engine.sqlite", isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            assert await db.read(hosts.count) == 0
            with pytest.raises(DatabaseGone, match="locked"):
                await db.write(added_host, patience=0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: db.write(added_host, patience=math.inf))
                await trio.testing.wait_all_tasks_blocked()
                other.execute("ROLLBACK")
        finally:
            other.close()
        assert await db.read(hosts.count) == 1


async def test_a_commit_waits_for_the_disk_whatever_the_default_is(
    database_url: str, key: Key, request: pytest.FixtureRequest
) -> None:
    is_sqlite = database_url.startswith("sqlite")
    if not is_sqlite:
        server: Postgres = request.getfixturevalue("postgres_server")
        name = name_of(database_url)
        with server.connected(name) as c:
            c.execute(
                SQL("ALTER DATABASE {} SET synchronous_commit = off").format(Identifier(name))
            )
    async with Database.opened(database_url, key=key) as db:
        asked = "PRAGMA synchronous" if is_sqlite else "SHOW synchronous_commit"
        found = await db.write(lambda c: c.exec_driver_sql(asked).scalar())
        assert found == (2 if is_sqlite else "on")  # 2: FULL


async def test_a_row_that_names_what_is_not_there_is_refused(db: Database) -> None:
    with pytest.raises(IntegrityError):
        await db.write(lambda c: disks.add(c, disk(new_id())))
    assert await db.read(disks.count) == 0


# --- urls ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "engine.sqlite",
        "mysql://x/y",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:////x?mode=ro",
        "sqlite+pysqlcipher:////x",
        "postgresql+asyncpg://x/y",
        "://",
        "postgresql://h:port/x",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(BadParameter, match="database"):
        parsed(url)


def test_a_password_is_not_shown() -> None:
    assert "secret" not in shown(parsed("postgresql://user:secret@host/name"))


def test_a_database_is_only_for_us(tmp_path: Path, key: Key) -> None:
    async def main() -> None:
        async with Database.opened(f"sqlite:///{tmp_path}/new/engine.sqlite", key=key) as db:
            await db.write(added_host)
            for path in (tmp_path / "new").iterdir():
                assert path.stat().st_mode & 0o077 == 0, path

    trio.run(main)
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0


async def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, key: Key) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseGone, match="File exists"):
        async with Database.opened(f"sqlite:///{tmp_path}/file/engine.sqlite", key=key):
            raise AssertionError


# --- what is stored -----------------------------------------------------------------------------

TRICKS = [
    "'; DROP TABLE disks; --",
    '" OR "1"="1',
    "../../../etc/passwd",
    "%",
    "_",
    "\\",
    "name%s%(x)s:x?",
    "\x01\x1f\x7f",
    "Ünïcödé \u202e\U0001f600",
    "${jndi:ldap://x}",
    "*",
]


async def test_any_text_is_only_text(db: Database) -> None:
    def work(c: Connection) -> None:
        for name in TRICKS:
            one = added_disk(c, name=name, description=name)
            assert disks.get(c, one.id) == one
            found = disks.search(c, name=name)
            assert one in found if name == "*" else found == [one]
            assert disks.find(c, name) is None
            assert hosts.search(c, name=f"x{name}") == []
            assert domains.search(c, id=name, kind=name, state=name) == []

    await db.write(work)
    assert await db.read(disks.count) == len(TRICKS)


async def test_a_star_is_any_text_and_nothing_else_is(db: Database) -> None:
    def work(c: Connection) -> None:
        for name in ("data_1", "data-1", "data%1", "DATA_1", "d\\1"):
            added_disk(c, name=name)
        found: Callable[[str], set[str]] = lambda name: {  # noqa: E731
            one.name for one in disks.search(c, name=name)
        }
        assert found("data*") == {"data_1", "data-1", "data%1"}
        assert found("data_*") == {"data_1"}
        assert found("data%*") == {"data%1"}
        assert found("*\\*") == {"d\\1"}
        assert found("data_1") == {"data_1"}
        assert disks.count(c, name="*_1") == 2

    await db.write(work)


async def test_text_that_cannot_be_stored_is_refused_the_same_everywhere(db: Database) -> None:
    for bad in ("a\0b", "\ud800", "x" * 5000):
        works: list[Callable[[Connection], object]] = [
            partial(domains.add, domain=domain(description=bad)),
            partial(disks.get, id=bad),
            partial(disks.search, name=bad),
            partial(disks.count, name=f"{bad}*"),
        ]
        for work in works:
            with pytest.raises(BadParameter, match="text"):
                await db.write(work)
    assert await db.read(domains.count) == 0


async def test_a_number_of_more_than_64_bits_is_refused(db: Database) -> None:
    for size in (1 << 63, -(1 << 63) - 1, 1 << 100):
        with pytest.raises(BadParameter, match="number"):
            await db.write(partial(added_disk, size=size))


async def test_the_largest_number_is_kept(db: Database) -> None:
    row = await db.write(lambda c: added_disk(c, size=(1 << 63) - 1))
    assert await db.read(lambda c: disks.get(c, row.id)) == row


async def test_json_is_bounded(db: Database) -> None:
    with pytest.raises(BadParameter, match="json"):
        await db.write(lambda c: added_command(c, facts={"x": "y" * (1 << 20)}))


async def test_json_comes_back(db: Database) -> None:
    facts: dict[str, Any] = {"x": [None, 0, "", [], {}, [1.5, "\0", {"ä": None}], "x" * 1000]}
    row = await db.write(lambda c: added_command(c, facts=facts))
    assert (await db.read(lambda c: commands.get(c, row.id))).facts == facts


# --- pages --------------------------------------------------------------------------------------


async def test_pages_are_in_order_and_bounded(db: Database) -> None:
    def work(c: Connection) -> None:
        for n in range(25):
            added_command(c, id=f"{n:02}", created=float(n // 5))

    await db.write(work)
    pages = [await db.read(partial(commands.search, limit=10, offset=at)) for at in (0, 10, 20, 30)]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert [one.id for page in pages for one in page] == [f"{n:02}" for n in reversed(range(25))]
    assert await db.read(lambda c: commands.search(c, limit=0)) == []
    assert await db.read(lambda c: commands.search(c, limit=-5, offset=-5)) == []
    assert len(await db.read(lambda c: commands.search(c, limit=1 << 70, offset=1 << 70))) == 0


SEARCHES: dict[str, Callable[[Connection], object]] = {
    "ix_commands_created_id": partial(commands.search, limit=50),
    "ix_commands_state_created_id": partial(commands.search, states=["failed"], limit=50),
    "ix_commands_type_created_id": partial(commands.search, type="move_disk"),
    "ix_commands_user_correlation": partial(commands.correlated, user="admin", correlation="x"),
}


async def test_ten_thousand_commands_are_paged_through_an_index(db: Database) -> None:
    def fill(c: Connection) -> None:
        states = ("succeeded",) * 99 + ("failed",)
        made = [
            command(created=float(n), state=states[n % 100], correlation=f"c{n}")
            for n in range(10_000)
        ]
        c.execute(schema.commands.insert(), [asdict(one) for one in made])

    await db.write(fill)
    await db.write(lambda c: c.execute(text("ANALYZE")))
    for index, work in SEARCHES.items():
        plan = await db.read(partial(explained, work=work))
        assert index in plan, plan
        assert "Seq Scan" not in plan
        assert "SCAN commands\n" not in plan
        assert "TEMP B-TREE" not in plan or index == "ix_commands_user_correlation"


async def test_the_audit_log_is_followed_through_an_index(db: Database) -> None:
    def fill(c: Connection) -> None:
        facts = {"severity": "normal", "code": 1, "user": "", "kind": "x", "object": "y"}
        values = [{"at": float(n), "text": "z", **facts} for n in range(10_000)]
        c.execute(schema.audit.insert(), values)

    await db.write(fill)
    await db.write(lambda c: c.execute(text("ANALYZE")))
    assert await db.read(audit.last_id) == 10_000
    plan = await db.read(lambda c: explained(c, lambda c: audit.since(c, 9_900)))
    assert "Seq Scan" not in plan
    assert "SEARCH audit USING INTEGER PRIMARY KEY" in plan or "pk_audit" in plan


def explained(c: Connection, work: Callable[[Connection], object]) -> str:
    """How the database does the statement of `work`."""
    said: list[str] = []

    def instead(
        connection: Connection, cursor: object, statement: str, parameters: Any, *_: object
    ) -> tuple[str, Any]:
        word = "EXPLAIN QUERY PLAN " if c.dialect.name == "sqlite" else "EXPLAIN "
        if not said:
            said.append(statement)
            rows_found = c.connection.cursor()
            rows_found.execute(word + statement, parameters)
            said.extend(str(row[-1]) for row in rows_found.fetchall())
            rows_found.close()
        return statement, parameters

    event.listen(c, "before_cursor_execute", instead, retval=True)
    work(c)
    return "\n".join(said[1:]) + "\n"


def test_rows_of_domains_hold_no_secret() -> None:
    assert "secret" not in Domain.__dataclass_fields__
    assert disk(new_id()).locked_by is None
