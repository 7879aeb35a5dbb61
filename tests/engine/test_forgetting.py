"""What is old is forgotten; what a person has to look at is not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from sqlalchemy import Connection

from engine.db import audit, commands
from engine.db.commands import Command, State
from engine.db.database import Database
from engine.db.secrets import Key
from engine.forgetting import keep_forgetting
from tests.servers import WAIT


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database.opened(f"sqlite:///{tmp_path}/e.sqlite", key=Key.random()) as made:
        yield made


def put(c: Connection, id: str, state: State, ended: float | None) -> None:
    commands.add(
        c,
        Command(
            id=id,
            type="copy_disk",
            state=state,
            stage=None,
            spec={},
            facts={},
            host=None,
            user="u",
            correlation=None,
            abort_asked=False,
            error=None,
            verdict=None,
            created=0.0,
            changed=0.0,
            ended=ended,
        ),
    )


def wrote(c: Connection, at: float) -> None:
    audit.add(
        c,
        at=at,
        severity="normal",
        code=1,
        user="",
        correlation=None,
        kind="disk",
        object="d",
        text="x",
    )


async def test_what_has_ended_long_ago_is_forgotten_and_nothing_else(database: Database) -> None:
    def work(c: Connection) -> None:
        for number in range(5):
            put(c, f"old-{number}", "succeeded", 10.0)
            wrote(c, 10.0)
        put(c, "new", "failed", 950.0)
        put(c, "running", "running", None)
        put(c, "unresolved", "unresolved", 10.0)
        put(c, "quarantined", "quarantined", 10.0)
        wrote(c, 950.0)

    await database.write(work)
    kept = {"new", "running", "unresolved", "quarantined"}
    async with trio.open_nursery() as nursery:

        async def forget() -> None:
            await keep_forgetting(database, 100.0, at_once=2, clock=lambda: 1000.0)

        nursery.start_soon(forget)
        with trio.fail_after(WAIT):
            while True:
                rows, log = await database.read(lambda c: (commands.search(c), audit.search(c)))
                if {row.id for row in rows} == kept and [row.at for row in log] == [950.0]:
                    break
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
