"""How far something has read the audit log: kept with what it made of it, in one transaction."""

from sqlalchemy import Connection, insert, select, update

from engine.db.schema import meta

_KEY = "position of "


def get(c: Connection, reader: str) -> int | None:
    """The id of the last row that was read; None: it has never read."""
    found = c.execute(select(meta.c.value).where(meta.c.key == _KEY + reader)).scalar()
    return None if found is None else int(found)


def put(c: Connection, reader: str, position: int) -> None:
    values = {"value": str(position)}
    if not c.execute(update(meta).where(meta.c.key == _KEY + reader).values(**values)).rowcount:
        c.execute(insert(meta).values(key=_KEY + reader, **values))
