"""Logins that failed stand in the audit log, few rows for however many there were."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from engine import failed_logins
from engine.db import audit
from engine.db.audit import Entry
from engine.db.database import Database
from engine.db.secrets import Key
from engine.events import Bus
from engine.failed_logins import KIND, PAIRS, FailedLogins
from protocol.errors import DatabaseGone
from tests.engine.stand_in import until

NEVER = 1e6  # seconds


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    async with Database.opened(f"sqlite:///{tmp_path}/e.sqlite", key=Key.random()) as made:
        yield made


@asynccontextmanager
async def running(logins: FailedLogins) -> AsyncGenerator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(logins.run)
        yield
        nursery.cancel_scope.cancel()


def since_the_first(c: Connection) -> list[Entry]:
    return audit.since(c, 0)


async def rows(database: Database, at_least: int = 0) -> list[Entry]:
    """The oldest first, as soon as there are so many."""
    with trio.fail_after(20):
        while len(found := await database.read(since_the_first)) < at_least:  # noqa: ASYNC110
            await trio.sleep(0.01)
    return found


async def test_the_first_is_written_at_once_and_the_next_when_their_minute_is_over(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_logins, "PAUSE", NEVER)
    bus = Bus()
    logins = FailedLogins(database, bus, clock=lambda: 7.0)
    with bus.subscribed(KIND) as heard:
        async with running(logins):
            logins.note("anna", "192.0.2.1")
            (first,) = await rows(database, 1)
            with trio.fail_after(20):
                assert (await heard.receive()).id == first.id
            for name in ("anna", "bob", "anna", "anna"):
                logins.note(name, "192.0.2.1")
    texts = [row.text for row in await rows(database)]
    assert texts == [
        "login of 'anna' from '192.0.2.1' failed",
        "login of 'anna' from '192.0.2.1' failed, 3 times",  # no minute, but the engine stops
        "login of 'bob' from '192.0.2.1' failed",
    ]
    assert (first.severity, first.code, first.kind, first.at) == ("warning", 4903, "user", 7.0)
    assert (first.user, first.object) == ("", "anna")


async def test_whatever_comes_in_a_minute_is_a_few_rows_and_none_is_uncounted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_logins, "PAUSE", NEVER)
    logins = FailedLogins(database, Bus())
    for number in range(1000):
        logins.note(f"user{number % 300}", f"2001:db8::{number:x}")
    logins.note("user0", "2001:db8::0")
    async with running(logins):
        found = await rows(database, PAIRS + 1)
    assert len(found) == PAIRS + 1
    assert found[0].text.endswith("failed, 2 times")
    assert found[-1].text.startswith("more logins failed")
    counts = [re.search(r"(\d+) times", row.text) for row in found]
    assert sum(int(count[1]) if count else 1 for count in counts) == 1001


@pytest.mark.parametrize(
    "name",
    [
        "a\nb",
        "\x1b[2J",
        "\u202eadmin",
        "x" * 256,
        "' or 1=1 --",
        "</event>",
        "\ud800",
        "\U0001f600",
    ],
)
async def test_a_name_is_shown_short_and_without_what_a_terminal_obeys(
    database: Database, name: str
) -> None:
    logins = FailedLogins(database, Bus())
    logins.note(name, "")
    async with running(logins):
        (row,) = await rows(database, 1)
    assert row.text.isprintable()
    assert len(row.text) < 200
    assert row.object == ""  # no user can be called so


@given(st.text(max_size=256), st.text(max_size=100))
def test_any_name_and_address_make_a_row(name: str, address: str) -> None:
    logins = FailedLogins(None, Bus())  # type: ignore[arg-type] # nothing is written
    logins.note(name, address)
    (row,) = failed_logins._rows(logins._counts)
    assert row.text.isprintable()


async def test_a_database_that_is_gone_gets_them_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_logins, "PAUSE", 0.01)
    tries = 0

    async def gone(*args: Any, **options: Any) -> None:
        nonlocal tries
        tries += 1
        raise DatabaseGone("for the test")

    logins = FailedLogins(database, Bus())
    async with running(logins):
        with monkeypatch.context() as patch:
            patch.setattr(Database, "write", gone)
            logins.note("anna", "192.0.2.1")
            await until(lambda: tries > 0)
            logins.note("anna", "192.0.2.1")
            await until(lambda: tries > 1)
        assert (await rows(database, 1))[0].text.endswith("failed, 2 times")
    assert len(await rows(database)) == 1
