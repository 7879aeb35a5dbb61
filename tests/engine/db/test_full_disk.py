"""A full disk under SQLite: nothing is lost, nothing is half, and it goes on when there is room."""

import math
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from engine.db import audit, hosts, rows
from engine.db.database import Database
from engine.db.secrets import Key
from protocol.errors import DatabaseGone
from tests.engine.db.child import pair
from tests.faults.disks import small_file_system
from tests.faults.test_agent_disk import fill

LIMIT = 60  # seconds


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_file_system(tmp_path, 8 << 20) as mounted:
        yield mounted


@pytest.fixture
async def db(disk: Path, key: Key) -> AsyncIterator[Database]:
    async with Database.opened(f"sqlite:///{disk}/engine.sqlite", key=key, patience=0.2) as opened:
        yield opened


async def test_what_does_not_fit_is_refused_and_all_else_stays(db: Database, disk: Path) -> None:
    await db.write(pair)
    fill(disk)
    with trio.fail_after(LIMIT):
        written = 1 + await until_full(db)
    entries = await db.read(lambda c: audit.since(c, 0, limit=rows.MOST))
    assert len(entries) == written
    assert await db.read(hosts.count) == written


async def test_a_write_goes_on_when_there_is_room_again(db: Database, disk: Path) -> None:
    await db.write(pair)
    filler = fill(disk)
    await until_full(db)
    before = await db.read(hosts.count)
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: db.write(pair, patience=math.inf))
            await trio.testing.wait_all_tasks_blocked(0.2)
            filler.unlink()
    assert await db.read(hosts.count) == before + 1
    assert await db.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar()) == "ok"


async def test_a_database_on_a_full_disk_cannot_be_made_and_can_later(disk: Path, key: Key) -> None:
    url, filler = f"sqlite:///{disk}/engine.sqlite", fill(disk)
    with pytest.raises(DatabaseGone):
        async with Database.opened(url, key=key, patience=0.2):
            raise AssertionError
    filler.unlink()
    async with Database.opened(url, key=key) as db:
        await db.write(pair)


async def until_full(db: Database) -> int:
    """How many pairs were written."""
    for n in range(10_000):
        try:
            await db.write(pair)
        except DatabaseGone:
            return n
    raise AssertionError("it is not full")
