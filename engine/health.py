"""Is the engine well? For load balancers, monitoring and people; it names no host and no disk."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, text

from engine.whole import Engine
from protocol.errors import Error

Word: TypeAlias = Literal["ok", "degraded", "failing"]
PATIENCE = 3.0  # seconds for the database to answer


@dataclass(frozen=True)
class Report:
    """facts: as JSON has them."""

    status: Word
    facts: Mapping[str, Any]

    @property
    def well(self) -> bool:
        """Can the engine answer requests?"""
        return self.status != "failing"


class Health:
    """failing: the database does not answer. degraded: some host does not."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def report(self) -> Report:
        states = Counter(view.state.value for view in self._engine.fleet.views())
        answers = await self._database()
        well = set(states) <= {"up", "maintenance"}
        status: Word = "failing" if not answers else "ok" if well else "degraded"
        return Report(status, {"database": {"answers": answers}, "hosts": dict(states)})

    async def _database(self) -> bool:
        def work(c: Connection) -> None:
            c.execute(text("SELECT 1"))

        try:
            await self._engine.database.read(work, patience=PATIENCE)
        except Error:
            return False
        return True
