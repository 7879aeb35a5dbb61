"""A database that is open, of each kind."""

from collections.abc import AsyncIterator

import pytest

from engine.db.database import Database
from engine.db.secrets import Key


@pytest.fixture(scope="session")
def key() -> Key:
    return Key.random()


@pytest.fixture
async def db(database_url: str, key: Key) -> AsyncIterator[Database]:
    async with Database.opened(database_url, key=key, patience=5) as opened:
        yield opened
