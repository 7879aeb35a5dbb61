"""The database: transactions in worker threads, which are repeated when it could not just now."""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar
from uuid import uuid4

import trio
from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError

from engine.db import connecting, faults, only_one
from engine.db.address import is_sqlite, parsed, shown
from engine.db.calls import Call, Calls, in_transaction
from engine.db.opening import opened
from engine.db.secrets import Key
from engine.db.trying import tried
from protocol.errors import DatabaseGone, EngineBusy

log = logging.getLogger(__name__)
T = TypeVar("T")
Work = Callable[[Connection], T]

PATIENCE = 30.0  # seconds
READERS = 8  # at once


@dataclass
class _Write(Generic[T]):
    """One call of Database.write. result: of the last try, whose commit was perhaps done."""

    id: str
    result: T | None = None
    unsure: bool = False


class Database:
    """Made by `Database.opened`. `work` gets a connection in a transaction, in a worker thread.

    It is an ordinary function, of those in engine/db, and waits for nothing but the database. It
    may be called several times, each time in a new transaction, so it does nothing but ask the
    database. What it raises ends the transaction, nothing of which remains, and is raised here.

    `read` and `write` raise DatabaseGone (4407) when the database could not be used for `patience`
    seconds (None: as it was opened; math.inf: wait); nothing was done then. EngineBusy (4408):
    another engine has taken the database; the body of `opened` is cancelled and raises it too.
    A call that has begun goes to its end even if it is cancelled.
    """

    def __init__(self, url: URL, key: Key, *, readers: int, patience: float) -> None:
        self.name = shown(url)
        self.key = key
        self.id = str(uuid4())
        self.owner = only_one.this_process()
        self.patience = patience
        self.calls = Calls()
        self.reader = connecting.reading(url, key, readers)
        self.writer = connecting.writing(url, key)
        self.lock = only_one.lock(url, key, self.owner)
        self.file = Path(url.database) if is_sqlite(url) and url.database else None
        self._lost = trio.Event()
        self._by: EngineBusy | None = None
        self._readers = trio.CapacityLimiter(readers)
        self._turn = trio.Lock()  # of those that write: first come, first served

    @classmethod
    def opened(
        cls,
        url: str,
        *,
        key: Key,
        standby: bool = False,
        patience: float = PATIENCE,
        readers: int = READERS,
    ) -> AbstractAsyncContextManager["Database"]:
        """The database at `url`, which is made if it is not there, and brought up to date.

        url: sqlite:////FILE or postgresql://USER@HOST/NAME. key: for secrets, of
        engine.db.secrets.key_of(path). standby: wait until no other engine has it.
        Raises BadParameter (1000): the url, or the key is not that of this database; EngineBusy
        (4408): another engine has it; WrongState (4403): it is of a newer engine; DatabaseGone.
        """
        return opened(cls(parsed(url), key, readers=readers, patience=patience), standby=standby)

    async def read(self, work: Work[T], *, patience: float | None = None) -> T:
        """One transaction that cannot change anything, and sees one state of the database."""

        def once(call: Call) -> T:
            try:
                return in_transaction(self.reader, call, work)
            except DBAPIError as e:
                if faults.is_read_only(e):
                    raise RuntimeError("a change in Database.read") from e
                raise

        async def run() -> T:
            async with self._readers:
                return await self.calls.run(once)

        return await tried(run, self._until(patience))

    async def write(self, work: Work[T], *, patience: float | None = None) -> T:
        """One transaction, alone: no other is between. It is on disk when this returns.

        A server that is lost during the commit is asked, as soon as it is back, whether it was
        done; for that it is waited as long as it takes.
        """
        until = self._until(patience)
        await self._take_turn(until)
        try:
            write: _Write[T] = _Write(str(uuid4()))
            return await tried(
                lambda: self.calls.run(lambda call: self._written(call, write, work)),
                until,
                unsure=lambda: write.unsure,
            )
        except EngineBusy as e:
            self.lose(e)
            raise
        finally:
            self._turn.release()

    async def _take_turn(self, until: float) -> None:
        try:
            return self._turn.acquire_nowait()
        except trio.WouldBlock:
            pass
        with trio.move_on_at(until) as waiting:
            await self._turn.acquire()
        if waiting.cancelled_caught:
            raise DatabaseGone("other changes wait for it too")

    def lose(self, by: EngineBusy) -> None:
        """Another engine has the database: stop."""
        self._by = by
        self._lost.set()

    async def wait_lost(self) -> Exception:
        await self._lost.wait()
        assert self._by is not None
        return self._by

    def _until(self, patience: float | None) -> float:
        return trio.current_time() + (self.patience if patience is None else patience)

    def _written(self, call: Call, write: _Write[T], work: Work[T]) -> T:
        committing = False

        def all_of_it(c: Connection) -> T:
            nonlocal committing
            if write.unsure and only_one.marked(c, self.id) == write.id:
                return write.result  # type: ignore[return-value] # of the try that was committed
            only_one.mark(c, self.id, write.id)
            # The row was ours to change: no earlier try can be committed any more.
            write.unsure = False
            write.result = work(c)
            write.unsure = committing = True
            return write.result

        try:
            return in_transaction(self.writer, call, all_of_it)
        except Exception as e:
            if committing and faults.is_refused(e):
                write.unsure = False
            raise
