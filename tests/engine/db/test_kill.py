"""kill -9 in the middle of writes: what was said to be written is there, and nothing by halves."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.db import audit, hosts, rows
from engine.db.database import Database
from engine.db.secrets import key_of
from tests.postgres import Postgres

ROOT = Path(__file__).parents[3]
KILLS = [pytest.param(3, id="3"), pytest.param(60, id="60", marks=pytest.mark.full)]


@pytest.mark.parametrize("kills", KILLS)
async def test_a_killed_engine_leaves_all_that_it_said_and_no_half(
    database_url: str, tmp_path: Path, kills: int
) -> None:
    key, dice = tmp_path / "engine.key", random.Random(kills)
    key_of(key)
    said: list[int] = []
    for _ in range(kills):
        said += written_until_killed(database_url, key, seconds=dice.uniform(0.0, 0.3))
        async with Database.opened(database_url, key=key_of(key), standby=True) as db:
            await check(db, said)
    assert len(said) > kills


@pytest.mark.parametrize("kills", KILLS)
async def test_a_killed_server_leaves_all_that_was_said_and_no_half(
    postgres_server: Postgres, tmp_path: Path, kills: int
) -> None:
    """The server recovers; the engine meanwhile goes on."""
    key, url = tmp_path / "engine.key", postgres_server.new_database()
    key_of(key)
    process = start(url, key)
    try:
        assert process.stdout is not None
        dice, said = random.Random(kills), []
        for _ in range(kills):
            ends = time.monotonic() + dice.uniform(0.0, 0.2)
            while time.monotonic() < ends:
                said.append(int(process.stdout.readline()))
            postgres_server.kill()
            postgres_server.start()
            said.append(int(process.stdout.readline()))
        process.kill()
        said += [int(line) for line in process.stdout]
    finally:
        process.kill()
        process.communicate()
    assert said == sorted(set(said))  # a server that was killed leaves out some numbers
    async with Database.opened(url, key=key_of(key), standby=True) as db:
        await check(db, said)
        assert await db.read(hosts.count) - len(said) in (0, 1)  # the last was perhaps not said
    postgres_server.drop(url)


def start(url: str, key: Path) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-m", "tests.engine.db.child", "write", url, str(key)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def written_until_killed(url: str, key: Path, *, seconds: float) -> list[int]:
    """What it said that it had written."""
    process = start(url, key)
    try:
        assert process.stdout is not None
        said = [int(process.stdout.readline())]
        time.sleep(seconds)
        process.kill()
        # The last line may be cut short.
        return said + [int(line) for line in process.stdout if line.endswith("\n")]
    finally:
        process.kill()
        process.communicate()


async def check(db: Database, said: list[int]) -> None:
    entries = await db.read(lambda c: audit.since(c, 0, limit=rows.MOST))
    names = {one.name for one in await db.read(hosts.all_hosts)}
    assert {entry.object for entry in entries} == names
    assert set(map(str, said)) <= names
    if "engine.sqlite" in db.name:
        found = await db.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar())
        assert found == "ok"
