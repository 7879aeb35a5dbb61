"""The estates of a test run: one for each database, made at its first use and shared by all tests.

One that a test has left in disorder is given up, and the next test gets a new one.
"""

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from tests.engine_estate import Estate, estate
from tests.faults.engine_scenes import SLOW_AGENTS
from tests.postgres import Postgres, postgres

SQLITE, POSTGRESQL = "sqlite", "postgresql"
SETTINGS = (
    "hosts.refresh=3600",  # seconds; at each connect they are asked anyway
    "database.patience=2",
)


@dataclass
class Estates:
    folders: pytest.TempPathFactory
    _made: dict[str, tuple[Estate, ExitStack]] = field(default_factory=dict)
    _server: Postgres | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def of(self, database: str) -> Estate:
        """One whose engine runs, and in which nothing is left by others."""
        if database in self._made and not self._is_whole(database):
            self._made.pop(database)[1].close()
        if database not in self._made:
            stack = ExitStack()
            made = stack.enter_context(self._new(database))
            self._made[database] = made, stack
        return self._made[database][0]

    @property
    def server(self) -> Postgres:
        """Of all databases of PostgreSQL."""
        if self._server is None:
            self._server = self._stack.enter_context(postgres())
        return self._server

    def _new(self, database: str) -> AbstractContextManager[Estate]:
        url = self.server.new_database() if database == POSTGRESQL else None
        folder = Path(self.folders.mktemp(database))
        return estate(folder, database=url, agents=SLOW_AGENTS, settings=SETTINGS)

    def _is_whole(self, database: str) -> bool:
        made = self._made[database][0]
        try:
            if made.engine.running.over:
                made.start()
            return made.is_whole() and made.left() == []
        except Exception:  # whatever is wrong with it, it is not used again
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for _, stack in self._made.values():
            stack.close()
        self._stack.close()
