"""From a url to a database that can be used: the lock, the tables, the key; and back."""

import logging
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio
from sqlalchemy import Connection, insert, select

from engine.db import connecting, faults, migrate, only_one
from engine.db.calls import Call, in_transaction
from engine.db.schema import meta
from engine.db.secrets import Key
from engine.db.trying import tried
from engine.db.watched import watched
from protocol.errors import BadParameter, DatabaseGone, EngineBusy

if TYPE_CHECKING:
    from engine.db.database import Database

log = logging.getLogger(__name__)

LOOK = 5.0  # seconds between two looks at the lock
STANDBY = 1.0  # the same, of an engine that waits for it
LINGER = 5.0  # seconds in which a server may not have noticed that an engine was killed
AGAIN = 0.2  # between two looks in that time
_CHECK = "key"  # in the table meta: a known word, sealed
_PLACE = "this database"


@asynccontextmanager
async def opened(db: "Database", *, standby: bool) -> AsyncGenerator["Database"]:
    ours = trio.Event()
    try:
        async with watched(db.wait_lost, partial(_beside, db, ours)):
            await _begin(db, standby=standby)
            ours.set()
            yield db
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_close, db)


async def _begin(db: "Database", *, standby: bool) -> None:
    until = trio.current_time() + db.patience
    try:
        if db.file is not None:
            await trio.to_thread.run_sync(connecting.make_file, db.file)
        await _lock(db, standby=standby)
    except OSError as e:
        raise DatabaseGone(str(e)) from None
    await tried(partial(db.calls.run, partial(_prepared, db), seconds=math.inf), until)


async def _lock(db: "Database", *, standby: bool) -> None:
    """Raises EngineBusy (4408): another engine has it, and did not just die."""
    # The kernel ends the lock of a file together with its process.
    lingers = trio.current_time() + (LINGER if db.file is None else 0.0)
    told = None
    while True:
        until = trio.current_time() + db.patience
        if await tried(partial(db.calls.run, db.lock.taken), until):
            return
        owner = await tried(partial(db.calls.run, partial(_owner, db)), until)
        if not standby and trio.current_time() >= lingers:
            raise EngineBusy(owner)
        if owner != told:  # once for each engine that has it
            does = "stands by" if standby else f"looks for {LINGER:g} s whether it has gone"
            log.info("another engine has the database, this one %s: %s", does, owner)
            told = owner
        await trio.sleep(STANDBY if standby else AGAIN)


async def _beside(db: "Database", ours: trio.Event) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(db.calls.watch)
        await ours.wait()
        await _keep(db)


async def _keep(db: "Database") -> None:
    """Look after the lock. A server that comes back has forgotten it, and a standby may be faster.

    Of an engine that is just started we are to be the faster one: the loss is seen at once. What
    counts is the row: the lock may be free because the one that took it has lost it too, or not
    free because the server believes that our lost connection is alive.
    """
    told = False
    while True:
        if told:
            await trio.sleep(AGAIN)
        else:
            await _next_look(db)
        try:
            await db.calls.run(db.lock.taken)
            await db.calls.run(partial(_still, db))
            told = False
        except EngineBusy as e:
            db.lose(e)
            return
        except Exception as e:
            if not faults.may_pass(e):
                raise
            if not told:
                log.warning("the lock of the database cannot be looked at: %s", faults.reason(e))
            told = True


async def _next_look(db: "Database") -> None:
    with trio.move_on_after(LOOK):
        if (fd := db.lock.descriptor()) is None:
            await trio.sleep_forever()
        else:
            await trio.lowlevel.wait_readable(fd)


def _still(db: "Database", call: Call) -> None:
    in_transaction(db.reader, call, lambda c: only_one.marked(c, db.id))


def _owner(db: "Database", call: Call) -> str:
    return in_transaction(db.reader, call, only_one.who)


def _close(db: "Database") -> None:
    db.reader.dispose()
    db.writer.dispose()
    db.lock.close()  # the last: from now on another engine may have it


def _prepared(db: "Database", call: Call) -> None:
    def work(c: Connection) -> None:
        if db.file is None:
            c.exec_driver_sql("SET LOCAL statement_timeout = 0")  # tables may be large
            _check_encoding(c)
        migrate.up_to_date(c, db.name)
        _check_key(c, db.key)
        only_one.hold(c, db.id, db.owner)

    in_transaction(db.writer, call, work)


def _check_encoding(c: Connection) -> None:
    if (found := c.exec_driver_sql("SHOW server_encoding").scalar_one()) != "UTF8":
        raise BadParameter("database", f"its encoding is {found}: create it with UTF8")


def _check_key(c: Connection, key: Key) -> None:
    """The first key of a database is its key. Raises BadParameter (1000): another one."""
    found = c.execute(select(meta.c.value).where(meta.c.key == _CHECK)).scalar()
    if found is None:
        sealed = key.seal(_CHECK, _PLACE).hex()
        c.execute(insert(meta).values(key=_CHECK, value=sealed))
    else:
        key.unseal(bytes.fromhex(found), _PLACE)
