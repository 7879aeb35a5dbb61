"""The state "kept": of a thing that nobody may touch until a person has looked. What it was before
is remembered beside it."""

from sqlalchemy import ColumnElement, Connection, Table, update

KEPT = "kept"


def keep(c: Connection, table: Table, which: ColumnElement[bool]) -> bool:
    """False: there is no such row. What is kept already stays so."""
    free = update(table).where(which, table.c.state != KEPT)
    if c.execute(free.values(state=KEPT, kept_from=table.c.state)).rowcount:
        return True
    return bool(c.execute(update(table).where(which).values(state=KEPT)).rowcount)


def free(c: Connection, table: Table, which: ColumnElement[bool]) -> bool:
    """Back to what it was; False: there is no such row that is kept."""
    held = update(table).where(which, table.c.state == KEPT, table.c.kept_from.is_not(None))
    return bool(c.execute(held.values(state=table.c.kept_from, kept_from=None)).rowcount)
