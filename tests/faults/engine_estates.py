"""The estates of a test run: made at their first use and shared by all tests that want such a one.

One that a test has left in disorder is given up, and the next test gets a new one.
"""

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from tests.engine_estate import Estate, estate
from tests.faults.engine_scenes import SLOW_AGENTS
from tests.postgres import Postgres, postgres

SQLITE, POSTGRESQL = "sqlite", "postgresql"
SETTINGS = (
    "hosts.refresh=3600",  # seconds; at each connect they are asked anyway
    "database.patience=2",
)


@dataclass(frozen=True)
class Kind:
    """managed: of the managed domains: file or tgt. data: how many data domains."""

    database: str
    managed: str = "file"
    data: int = 1


@dataclass
class Estates:
    folders: pytest.TempPathFactory
    _made: dict[Kind, tuple[Estate, ExitStack]] = field(default_factory=dict)
    _server: Postgres | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def of(self, database: str, **options: Any) -> Estate:
        """One whose engine runs, and in which nothing is left by others. options: of Kind."""
        kind = Kind(database, **options)
        if kind in self._made and not self._is_whole(kind):
            self._made.pop(kind)[1].close()
        if kind not in self._made:
            stack = ExitStack()
            made = stack.enter_context(self._new(kind))
            self._made[kind] = made, stack
        return self._made[kind][0]

    @property
    def server(self) -> Postgres:
        """Of all databases of PostgreSQL."""
        if self._server is None:
            self._server = self._stack.enter_context(postgres())
        return self._server

    def _new(self, kind: Kind) -> AbstractContextManager[Estate]:
        return estate(
            Path(self.folders.mktemp(kind.database)),
            database=self.server.new_database() if kind.database == POSTGRESQL else None,
            kind=kind.managed,
            data=kind.data,
            agents=SLOW_AGENTS,
            settings=SETTINGS,
        )

    def _is_whole(self, kind: Kind) -> bool:
        made = self._made[kind][0]
        try:
            if made.engine.running.over:
                made.start()
            made.nothing_is_left(seconds=0.0)
            return made.is_whole()
        except Exception:  # whatever is wrong with it, it is not used again
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for _, stack in self._made.values():
            stack.close()
        self._stack.close()
