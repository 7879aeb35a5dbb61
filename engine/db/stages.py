"""The journal of a command: rows are added to it, and never changed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, func, select

from engine.db import rows
from engine.db.schema import stages

Event = Literal["begin", "done", "undo", "undone", "failed", "kept"]


@dataclass(frozen=True)
class Line:
    """n: 1, 2, 3 ... of its command. name: of the stage. data: facts of "done", an error ..."""

    command: str
    n: int
    name: str
    event: Event
    at: float
    data: Mapping[str, Any] | None = None


def add(c: Connection, line: Line) -> None:
    """Raises NameTaken (4401): there is a line with that number: somebody else writes too."""
    with rows.taken("line of the journal", f"{line.n} of command {line.command}"):
        c.execute(stages.insert().values(**asdict(line)))


def append(
    c: Connection,
    command: str,
    name: str,
    event: Event,
    *,
    at: float,
    data: Mapping[str, Any] | None = None,
) -> int:
    """Its number."""
    last = select(func.coalesce(func.max(stages.c.n), 0)).where(stages.c.command == command)
    n: int = c.execute(last).scalar_one() + 1
    add(c, Line(command, n, name, event, at, data))
    return n


def of_command(c: Connection, command: str) -> list[Line]:
    """In their order."""
    query = rows.columns(stages, Line).where(stages.c.command == command)
    return rows.rows(c, Line, query.order_by(stages.c.n))
