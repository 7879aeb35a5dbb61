"""Changes that are no commands: each is one transaction, with its row in the audit log."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from sqlalchemy import Connection

from engine.db import audit
from engine.events import Bus

T = TypeVar("T")
Text: TypeAlias = str | Callable[[Connection], str]
CODE = 4900  # of the audit rows: a change by a person. Codes above 5000 are oVirt's


class Store(Protocol):
    """engine/db/database.py: work on a connection, in a worker thread."""

    async def read(self, work: Callable[[Connection], T]) -> T: ...

    async def write(self, work: Callable[[Connection], T]) -> T: ...


@dataclass(frozen=True)
class Admin:
    """Who changes something, and with what. clock: seconds since the epoch."""

    database: Store
    events: Bus
    user: str
    correlation: str = ""
    clock: Callable[[], float] = time.time

    async def change(
        self, kind: str, object: str, text: Text, work: Callable[[Connection], T]
    ) -> T:
        """Do `work` and write down who did it; then tell of it. kind: "host"; object: its id.

        text: for people: "added host a"; a function is asked before the change. Raises what `work`
        does, and DatabaseGone (4407).
        """

        def all_of_it(c: Connection) -> tuple[T, int, str]:
            said = text if isinstance(text, str) else text(c)
            done = work(c)
            row = audit.add(
                c,
                at=self.clock(),
                severity="normal",
                code=CODE,
                user=self.user,
                correlation=self.correlation,
                kind=kind,
                object=object,
                text=said,
            )
            return done, row, said

        done, row, said = await self.database.write(all_of_it)
        self.tell(kind, object, {"text": said, "user": self.user}, row)
        return done

    def tell(self, kind: str, object: str, data: dict[str, Any], row: int | None = None) -> None:
        self.events.tell(f"{kind}.changed", object, data, id=row)
