"""One engine at a time has a database: a lock that the kernel, or the server, takes back from one
that died. What makes it certain is the row `holder`, which every transaction checks."""

import fcntl
import os
import socket
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, Connection, Engine, insert, inspect, select, update

from engine.db import connecting
from engine.db.address import is_sqlite
from engine.db.calls import Call
from engine.db.schema import holder
from engine.db.secrets import Key
from protocol.errors import EngineBusy

_LOCK = int.from_bytes(b"leasehol")  # of pg_try_advisory_lock; the same in each database


class OnlyOne(Protocol):
    """`taken` and `close` block for a moment. Raises DBAPIError, OSError."""

    def taken(self, call: Call) -> bool:
        """Take it, or look whether it is still ours and take it again; False: another has it."""

    def descriptor(self) -> int | None:
        """It can be read from when the lock may be lost, until `taken` is called; None: there is
        none."""

    def close(self) -> None: ...


class FileLock:
    """On FILE.engine, beside a database of SQLite. It is never removed: another may wait for it."""

    def __init__(self, database: Path, owner: str) -> None:
        self._path = database.with_name(database.name + ".engine")
        self._owner = owner
        self._fd: int | None = None

    def taken(self, call: Call) -> bool:
        if self._fd is not None:
            return True
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, self._owner.encode() + b"\n", 0)  # for people
        return True

    def descriptor(self) -> int | None:
        return None  # nobody can take it away

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class AdvisoryLock:
    """Of a session of PostgreSQL, on a connection of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._ours = False

    def taken(self, call: Call) -> bool:
        try:
            c = self._connection = self._connection or self._engine.connect()
            call.uses(c)
            if self._ours:
                c.exec_driver_sql("SELECT 1")
            else:
                found = c.exec_driver_sql("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
                self._ours = bool(found.scalar_one())
            return self._ours
        except BaseException:
            self._forget()
            raise
        finally:
            call.ended()

    def descriptor(self) -> int | None:
        if self._connection is None:
            return None
        return connecting.descriptor(self._connection.connection.dbapi_connection)

    def close(self) -> None:
        self._forget()
        self._engine.dispose()

    def _forget(self) -> None:
        connection, self._connection, self._ours = self._connection, None, False
        if connection is not None:
            connection.invalidate()
            connection.close()


def lock(url: URL, key: Key, owner: str) -> OnlyOne:
    if is_sqlite(url):
        assert url.database is not None
        return FileLock(Path(url.database), owner)
    return AdvisoryLock(connecting.locking(url, key))


def this_process() -> str:
    """For people."""
    return f"{socket.gethostname()}, process {os.getpid()}"


# --- the row ------------------------------------------------------------------------------------


def hold(c: Connection, engine: str, owner: str) -> None:
    """From now on only `engine` may write. To be called by who has the lock."""
    values = {"engine": engine, "owner": owner[:255], "write": ""}
    if not c.execute(update(holder).values(values)).rowcount:
        c.execute(insert(holder).values(one=1, **values))


def mark(c: Connection, engine: str, write: str) -> None:
    """Put the id of this transaction into the row. Raises EngineBusy (4408): it is another's."""
    values = update(holder).where(holder.c.engine == engine).values(write=write)
    if not c.execute(values).rowcount:
        raise EngineBusy(who(c))


def marked(c: Connection, engine: str) -> str:
    """The id of the last transaction. Raises EngineBusy (4408)."""
    query = select(holder.c.write).where(holder.c.engine == engine)
    found: str | None = c.execute(query).scalar()
    if found is None:
        raise EngineBusy(who(c))
    return found


def who(c: Connection) -> str:
    """Who has the database, as far as it is known."""
    found: str | None = None
    if inspect(c).has_table(holder.name):
        found = c.execute(select(holder.c.owner)).scalar()
    return str(found or "nobody knows which")
