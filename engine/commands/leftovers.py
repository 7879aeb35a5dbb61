"""Tidies up on hosts that were silent when their access was cut: they still believe that they have
it. The storage has shut them out, so nothing depends on this; it only takes away what is of no use.
"""

import logging
from functools import partial

import trio
from sqlalchemy import ColumnElement, Connection, delete, update

from engine.answers import HostState
from engine.commands.services import Services
from engine.db import attachments
from engine.db.attachments import Attachment
from engine.db.schema import attachments as table
from engine.fleet import FleetEvent, HostChanged
from protocol.errors import DatabaseGone, Error

log = logging.getLogger(__name__)

COMMAND = "leftovers"  # has the attachment while it is being ended, so that no command begins it


async def keep_tidy(services: Services) -> None:
    """As soon as such a host is up, and again after a while, until it is cancelled."""
    met = trio.Event()

    def watch(event: FleetEvent) -> None:
        if isinstance(event, HostChanged) and event.view.up:
            met.set()

    services.fleet.watch(watch)
    while True:
        try:
            await services.database.write(_given_back)
            await _tidied(services)
        except DatabaseGone as e:
            log.warning("leftovers on hosts wait: %s", e)
        with trio.move_on_after(services.copies.leftovers):
            await met.wait()
        met = trio.Event()


async def _tidied(services: Services) -> None:
    for one in await services.database.read(attachments.all_attachments):
        if not one.shut_out or services.fleet.state(one.host) is not HostState.UP:
            continue
        if await services.database.write(partial(_taken, one=one)):
            await _detached(services, one)


async def _detached(services: Services, one: Attachment) -> None:
    params = {"vol_id": one.volume}
    try:
        times = services.copies
        await services.fleet.call(
            one.host, "ManagedVolume.detach_volume", params, timeout=times.attach
        )
    except Error as e:
        log.info("host %s keeps what it has of volume %s: %s", one.host, one.volume, e)
        await services.database.write(_given_back)
        return
    log.info("host %s has nothing of volume %s any more", one.host, one.volume)
    await services.database.write(partial(_removed, one=one))


def _taken(c: Connection, one: Attachment) -> bool:
    """False: a command was faster."""
    mine = update(table).where(_is(one), table.c.shut_out.is_(True))
    return bool(c.execute(mine.values(shut_out=False, command=COMMAND)).rowcount)


def _given_back(c: Connection) -> None:
    """What an engine that was killed had taken, too."""
    mine = update(table).where(table.c.command == COMMAND)
    c.execute(mine.values(shut_out=True, state="detaching"))


def _removed(c: Connection, one: Attachment) -> None:
    c.execute(delete(table).where(_is(one), table.c.command == COMMAND))


def _is(one: Attachment) -> ColumnElement[bool]:
    return (table.c.volume == one.volume) & (table.c.host == one.host)
