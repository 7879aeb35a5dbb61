"""A real PostgreSQL server on a socket of its own, for tests. Source: PostgreSQL 15, initdb(1).

It runs as the user `postgres` where we are root, for it refuses that. What it writes is not brought
to disk: it outlives a kill, but not that of the machine.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql

from tests.servers import LOOK, START_TIME

USER = "leasehold"
BIN = Path("/usr/lib/postgresql")
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "shared_buffers": "16MB",
    "max_connections": "200",
    "autovacuum_naptime": "1h",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


def programs() -> Path | None:
    """Where the programs of the newest server are; None: none is installed."""
    found = sorted(BIN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@dataclass
class Postgres:
    """folder: short, for its socket. It may be stopped, killed and started again."""

    folder: Path
    process: "subprocess.Popen[bytes] | None" = None

    def url(self, name: str) -> str:
        return f"postgresql://{USER}@/{name}?host={self.folder}"

    def new_database(self, encoding: str = "UTF8") -> str:
        """The url of a new and empty database."""
        name = f"t{uuid4().hex}"
        with self.connected("postgres") as c:
            text = sql.SQL("CREATE DATABASE {} ENCODING {} TEMPLATE template0 STRATEGY file_copy")
            c.execute(text.format(sql.Identifier(name), sql.Literal(encoding)))
        return self.url(name)

    def drop(self, url: str) -> None:
        """With whatever is still connected to it."""
        name = sql.Identifier(name_of(url))
        with self.connected("postgres") as c:
            c.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    @contextmanager
    def connected(self, name: str) -> "Iterator[psycopg.Connection]":
        """A connection past the engine, each statement a transaction."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            yield connection

    def start(self) -> None:
        found = programs()
        assert found is not None
        log = self.folder / "log"
        settings = {**_SETTINGS, "unix_socket_directories": str(self.folder)}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        argv = [str(found / "postgres"), "-D", str(self.folder / "data"), *words]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                ["setpriv", *_as(), "--pdeathsig", "KILL", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the tests
            )
        deadline = time.monotonic() + START_TIME
        while not self._answers():
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(LOOK)

    def stop(self) -> None:
        """In order, but at once: who is connected is thrown out."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """All of its processes, as a crash of the machine would."""
        assert self.process is not None
        children = _children(self.process.pid)
        self._end(signal.SIGKILL)
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + START_TIME
        while any(Path(f"/proc/{pid}").exists() for pid in children):
            assert time.monotonic() < deadline
            time.sleep(LOOK)

    def freeze(self, *, go_on: bool = False) -> None:
        """All of its processes stop, or go on: it is there, and does not answer."""
        assert self.process is not None
        for pid in (self.process.pid, *_children(self.process.pid)):
            os.kill(pid, signal.SIGCONT if go_on else signal.SIGSTOP)

    def _end(self, signum: int) -> None:
        if self.process is None:
            return
        self.process.send_signal(signum)
        self.process.wait(timeout=60)
        self.process = None

    def _answers(self) -> bool:
        try:
            with self.connected("postgres"):
                return True
        except psycopg.OperationalError:
            return False


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server with no database of ours."""
    found = programs()
    assert found is not None, "scripts/setup installs PostgreSQL"
    folder = Path(tempfile.mkdtemp(prefix="lh-pg-", dir="/tmp"))
    server = Postgres(folder)
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        words = ["-U", USER, "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync"]
        argv = ["setpriv", *_as(), "--", str(found / "initdb"), "-D", str(folder / "data"), *words]
        subprocess.run(argv, check=True, capture_output=True, cwd=folder)
        server.start()
        yield server
    finally:
        server._end(signal.SIGQUIT)
        shutil.rmtree(folder)


def _as() -> list[str]:
    """For setpriv(1): the user that the server runs as."""
    if os.geteuid() != 0:
        return []
    return ["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]


def name_of(url: str) -> str:
    """Of the database."""
    return url.partition("@/")[2].partition("?")[0]


def _children(pid: int) -> list[int]:
    """The processes of a server: its postmaster starts them all."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]
