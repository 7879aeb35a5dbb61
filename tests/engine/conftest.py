"""The databases that the engine runs on; what concerns them is tested on each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import Postgres

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a new and empty database, of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/database/engine.sqlite"
    else:
        server: Postgres = request.getfixturevalue("postgres_server")
        url = server.new_database()
        yield url
        server.drop(url)
