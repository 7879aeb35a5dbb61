"""What all tables need: rows as dataclasses, pages of them, and updates that look first."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, Table, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from engine.db import faults
from protocol.errors import NameTaken, NoSuchObject, WrongState

T = TypeVar("T")
PAGE = 100  # rows, when nobody says how many
MOST = 10_000
_ESCAPE = "\\"


@dataclass(frozen=True)
class Noun:
    """A table of things with an id and perhaps a state. kind: for people: "disk".

    moves: of each state, the states from which it is reached; the whole machine.
    """

    table: Table
    kind: str
    moves: Mapping[str, tuple[str, ...]] | None = None

    def missing(self, id: str | int) -> NoSuchObject:
        return NoSuchObject(self.kind, str(id))

    def find(self, c: Connection, row: type[T], id: str) -> T | None:
        return first(c, row, columns(self.table, row).where(self.table.c.id == id))

    def get(self, c: Connection, row: type[T], id: str) -> T:
        """Raises NoSuchObject (4400)."""
        if (found := self.find(c, row, id)) is None:
            raise self.missing(id)
        return found

    def named(self, c: Connection, row: type[T], name: str) -> T:
        """Raises NoSuchObject (4400)."""
        found = first(c, row, columns(self.table, row).where(self.table.c.name == name))
        if found is None:
            raise NoSuchObject(self.kind, name)
        return found

    def add(self, c: Connection, values: Mapping[str, Any]) -> None:
        """Raises NameTaken (4401): there is one with this id or name."""
        with taken(self.kind, str(values.get("name") or values["id"])):
            c.execute(self.table.insert().values(**values))

    def change(self, c: Connection, id: str, /, **values: Any) -> None:
        """Raises NoSuchObject (4400), NameTaken (4401)."""
        with taken(self.kind, str(values.get("name", id))):
            done = c.execute(update(self.table).where(self.table.c.id == id).values(**values))
        if not done.rowcount:
            raise self.missing(id)

    def move(
        self, c: Connection, id: str | int, state: str, expected: Iterable[str] = (), **values: Any
    ) -> None:
        """To another state, from one of `expected`; none: from all that the machine allows, and
        from that state itself: who repeats what it did finds it so.

        Raises NoSuchObject (4400); WrongState (4403): it is in another state; nothing is changed.
        """
        assert self.moves is not None
        allowed = (*expected,) or (*self.moves[state], state)
        assert {*allowed} <= {*self.moves[state], state}, f"{self.kind}: {allowed} to {state}"
        table = self.table
        guard = update(table).where(table.c.id == id, table.c.state.in_(allowed))
        if not c.execute(guard.values(state=state, **values)).rowcount:
            raise self.wrong(c, id, allowed)

    def wrong(
        self, c: Connection, id: str | int, expected: Iterable[str]
    ) -> NoSuchObject | WrongState:
        """Why no row with this id was in one of these states."""
        found = c.execute(select(self.table.c.state).where(self.table.c.id == id)).scalar()
        if found is None:
            return self.missing(id)
        return WrongState(self.kind, str(id), found, " or ".join(expected))

    def remove(self, c: Connection, id: str) -> None:
        """Raises NoSuchObject (4400)."""
        if not c.execute(delete(self.table).where(self.table.c.id == id)).rowcount:
            raise self.missing(id)


@contextmanager
def taken(kind: str, name: str) -> Iterator[None]:
    """Raises NameTaken (4401) where a key would be twice in a table."""
    try:
        yield
    except IntegrityError as e:
        if faults.is_taken(e):
            raise NameTaken(kind, name) from None
        raise


# --- rows ---------------------------------------------------------------------------------------


def rows(c: Connection, row: type[T], query: Select[Any]) -> list[T]:
    return [row(**found._mapping) for found in c.execute(query)]


def first(c: Connection, row: type[T], query: Select[Any]) -> T | None:
    found = c.execute(query.limit(1)).first()
    return None if found is None else row(**found._mapping)


def columns(table: Table, row: type[Any]) -> Select[Any]:
    """A query of those columns that a dataclass has a field for."""
    return select(*(table.c[name] for name in row.__dataclass_fields__))


# --- searches -----------------------------------------------------------------------------------

Order = Literal["newest", "oldest"]


def where(table: Table, **wanted: Any) -> list[ColumnElement[bool]]:
    """What rows must be equal to. None: anything. A tuple, list or set: one of these. Names may
    have `*` for any text."""
    found: list[ColumnElement[bool]] = []
    for name, value in wanted.items():
        column = table.c[name]
        if value is None:
            continue
        if isinstance(value, tuple | list | set | frozenset):
            found.append(column.in_(list(value)))
        elif name == "name" and "*" in value:
            found.append(column.like(_pattern(value), escape=_ESCAPE))
        else:
            found.append(column == value)
    return found


def page(query: Select[Any], limit: int, offset: int) -> Select[Any]:
    """limit: at most so many rows; larger than 10,000 is 10,000. offset: how many are left out."""
    return query.limit(max(0, min(limit, MOST))).offset(max(0, min(offset, 1 << 40)))


def counted(c: Connection, table: Table, conditions: Iterable[ColumnElement[bool]]) -> int:
    return c.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one()


def _pattern(name: str) -> str:
    for special in (_ESCAPE, "%", "_"):
        name = name.replace(special, _ESCAPE + special)
    return name.replace("*", "%")
