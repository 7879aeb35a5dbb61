"""How connections are made: the pools of one database, and what each connection is told first."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, create_engine, event

from engine.db import secrets
from engine.db.address import is_sqlite
from engine.db.secrets import Key
from protocol.errors import BadParameter

CALL_TIME = 30.0  # seconds for one statement, and for a connect
_LOCK_TIME = 10.0  # seconds that a statement waits for another transaction
_BUSY_TIME = 1.0  # the same, of SQLite; then it is tried again
_CHECKPOINT = 64 << 20  # bytes of the write-ahead log of SQLite that are kept
# Keep-alives: a peer that is silent for about 20 s is given up, by both ends.
_TCP = {"keepalives_idle": 10, "keepalives_interval": 3, "keepalives_count": 3}

# Of each connection of PostgreSQL a second descriptor, by which a hanging call is cut off.
_doors: WeakKeyDictionary[Any, socket.socket] = WeakKeyDictionary()


def reading(url: URL, key: Key, size: int) -> Engine:
    """Connections that cannot write; each transaction sees one state of the database."""
    engine = _engine(url, key, poolclass=QueuePool, pool_size=size, read_only=True)
    if is_sqlite(url):
        event.listen(engine, "connect", _sqlite_reader)
        event.listen(engine, "begin", _begin)
    return engine


def writing(url: URL, key: Key) -> Engine:
    """One connection. What was committed is on disk."""
    engine = _engine(url, key, poolclass=QueuePool, pool_size=1)
    if is_sqlite(url):
        event.listen(engine, "connect", _sqlite_writer)
        event.listen(engine, "begin", _begin_immediate)
    return engine


def locking(url: URL, key: Key) -> Engine:
    """PostgreSQL: a connection for the lock of the engine alone, without transactions."""
    return _engine(url, key, poolclass=NullPool, isolation_level="AUTOCOMMIT")


def descriptor(connection: Any) -> int | None:
    """Of a connection of PostgreSQL: it can be read from when the server speaks, or goes."""
    door = _doors.get(connection)
    return door.fileno() if door else None


def cut(connection: Any) -> None:
    """End the call that a thread does with a connection of a driver; it fails there."""
    if door := _doors.get(connection):
        with suppress(OSError):  # it has ended already
            door.shutdown(socket.SHUT_RDWR)
    elif hasattr(connection, "interrupt"):
        connection.interrupt()


def _engine(url: URL, key: Key, *, read_only: bool = False, **options: Any) -> Engine:
    if options["poolclass"] is QueuePool:
        options |= {"max_overflow": 0, "pool_timeout": CALL_TIME}
    if is_sqlite(url):
        arguments: dict[str, Any] = {"check_same_thread": False, "timeout": _BUSY_TIME}
    else:
        arguments = _postgresql(url, read_only=read_only)
        options = {"isolation_level": "REPEATABLE READ", **options}
    engine = create_engine(
        url,
        connect_args=arguments,
        hide_parameters=True,  # in errors and logs: some are secret
        execution_options={secrets.OPTION: key},
        **options,
    )
    if is_sqlite(url):
        event.listen(engine, "connect", _sqlite)
    else:
        event.listen(engine, "connect", _open_door)
        event.listen(engine, "close", _close_door)
    return engine


# --- SQLite. Source: sqlite.org/pragma.html, and wal.html --------------------------------------


def make_file(path: Path) -> None:
    """An empty database that only we may read; its companions take its mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _sqlite(connection: Any, record: object) -> None:
    # The driver begins no transactions: it would do so late, and never for reading.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA case_sensitive_like = ON")  # as in PostgreSQL
    connection.execute("PRAGMA trusted_schema = OFF")


def _sqlite_reader(connection: Any, record: object) -> None:
    connection.execute("PRAGMA query_only = ON")


def _sqlite_writer(connection: Any, record: object) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise BadParameter("database", f"its file system cannot share memory: it is in {mode} mode")
    connection.execute("PRAGMA synchronous = FULL")  # each commit waits for the disk
    connection.execute(f"PRAGMA journal_size_limit = {_CHECKPOINT}")


def _begin(c: Connection) -> None:
    c.exec_driver_sql("BEGIN")


def _begin_immediate(c: Connection) -> None:
    # A transaction that only becomes a writer on its way may be refused then, whatever it waits.
    c.exec_driver_sql("BEGIN IMMEDIATE")


# --- PostgreSQL. Source: PostgreSQL 15, 34.1.2 (libpq) and 20.11 (client connection defaults) ---


def _postgresql(url: URL, *, read_only: bool) -> dict[str, Any]:
    settings = {
        "synchronous_commit": "on",
        "statement_timeout": f"{CALL_TIME:.0f}s",
        "lock_timeout": f"{_LOCK_TIME:.0f}s",
        "idle_in_transaction_session_timeout": f"{2 * CALL_TIME:.0f}s",
        "default_transaction_read_only": "on" if read_only else "off",
        **{f"tcp_{name}": value for name, value in _TCP.items()},
    }
    options = [f"-c {name}={value}" for name, value in settings.items()]
    given = url.query.get("options", ())
    options = [*((given,) if isinstance(given, str) else given), *options]
    return {
        "connect_timeout": 10,
        "keepalives": 1,
        **_TCP,
        "tcp_user_timeout": 20_000,  # ms
        "application_name": "leasehold engine",
        "client_encoding": "utf8",
        "options": " ".join(options),
    }


def _open_door(connection: Any, record: object) -> None:
    _doors[connection] = socket.socket(fileno=os.dup(connection.fileno()))


def _close_door(connection: Any, record: object) -> None:
    if door := _doors.pop(connection, None):
        door.close()
