"""The managed volumes that are attached to this host: a small SQLite table in the state folder.

A row is written before anything is done for its volume, and removed after all of it was undone. So
whatever a crash leaves behind has a row, by which it is attached anew or detached. A row has the id
of the boot in which it was written: after a reboot nothing of it is there any more.
Its calls block for a moment. Source: docs/managed.md.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from protocol.errors import BadParameter, NoSpaceLeft

FILE = "managed-volumes.db"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BUSY_TIME = 5.0  # seconds; nobody but a person with sqlite3 reads it beside us
_VERSION = 1
_SCHEMA = """
CREATE TABLE volumes (
    vol_id TEXT PRIMARY KEY,
    sd_id TEXT NOT NULL,
    connection_info TEXT NOT NULL,
    path TEXT,
    attachment TEXT,
    multipath_id TEXT,
    boot_id TEXT NOT NULL
)
"""
_COLUMNS = "vol_id, sd_id, connection_info, path, attachment, multipath_id"
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


@dataclass(frozen=True)
class ManagedVolume:
    """connection: as it came, secrets included. attachment: what the helper told when it had
    attached the volume, path: where that is, a device or a url; None: it never came that far.
    multipath_id: of a device that has one.
    """

    vol_id: str
    sd_id: str
    connection: Mapping[str, Any]
    path: str | None = None
    attachment: Mapping[str, Any] | None = None
    multipath_id: str | None = None

    def __repr__(self) -> str:  # no secret is printed by chance
        return f"ManagedVolume({self.vol_id!r}, {self.sd_id!r}, ..., path={self.path!r})"

    @property
    def attached(self) -> bool:
        return self.path is not None


class ManagedTable:
    """Those of one boot. Any thread may call it, and all may at once."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self.path = path
        self._boot_id = boot_id

    @classmethod
    def opened(cls, path: Path, boot_id: str) -> tuple["ManagedTable", list[ManagedVolume]]:
        """The table, made when there is none, and what of former boots was forgotten just now.

        Raises BadParameter: the file is damaged; NoSpaceLeft; OSError.
        """
        # Before SQLite does: whatever is written to it may hold secrets.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        made = cls(path, boot_id)
        with made._changed() as database:
            if not database.execute("PRAGMA user_version").fetchone()[0]:
                database.execute(_SCHEMA)
                database.execute(f"PRAGMA user_version = {_VERSION}")
            gone = database.execute(
                f"DELETE FROM volumes WHERE boot_id != ? RETURNING {_COLUMNS}", (boot_id,)
            ).fetchall()
        return made, [_volume(row) for row in gone]

    def all(self) -> list[ManagedVolume]:
        """By id."""
        query = f"SELECT {_COLUMNS} FROM volumes WHERE boot_id = ? ORDER BY vol_id"
        with self._opened() as database:
            return [_volume(row) for row in database.execute(query, (self._boot_id,))]

    def put(self, volume: ManagedVolume) -> None:
        """Write the row of a volume; one that is there is replaced."""
        values = (
            volume.vol_id,
            volume.sd_id,
            _text(volume.connection),
            volume.path,
            None if volume.attachment is None else _text(volume.attachment),
            volume.multipath_id,
            self._boot_id,
        )
        with self._changed() as database:
            marks = ", ".join("?" * len(values))
            database.execute(
                f"INSERT OR REPLACE INTO volumes ({_COLUMNS}, boot_id) VALUES ({marks})", values
            )

    def remove(self, vol_id: str) -> None:
        with self._changed() as database:
            database.execute("DELETE FROM volumes WHERE vol_id = ?", (vol_id,))

    @contextmanager
    def _changed(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on disk at the end of the body."""
        with self._opened() as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        # One for each call: a connection belongs to its thread, and opening takes no time.
        try:
            with closing(self._connection()) as database:
                yield database
        except sqlite3.Error as e:
            raise self._named(e) from e

    def _connection(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=BUSY_TIME, isolation_level=None)
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA secure_delete = ON")  # no secret stays in a page that is free
        return database

    def _named(self, error: sqlite3.Error) -> Exception:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            return NoSpaceLeft("leasehold", 1, f"no space left in {self.path.parent}")
        if code in _DAMAGED:
            reason = f"{self.path} is damaged ({error}): remove it and detach what was attached"
            return BadParameter("folders.state", reason)
        return OSError(f"{self.path}: {error}")


def boot_id() -> str:
    """Of this boot of the host. Source: random(4), /proc/sys/kernel/random/boot_id."""
    return BOOT_ID.read_text().strip()


def _text(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()


def _volume(row: tuple[str, str, str, str | None, str | None, str | None]) -> ManagedVolume:
    vol_id, sd_id, connection, path, attachment, multipath_id = row
    return ManagedVolume(
        vol_id,
        sd_id,
        msgspec.json.decode(connection),
        path,
        None if attachment is None else msgspec.json.decode(attachment),
        multipath_id,
    )
