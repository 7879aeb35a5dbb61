"""Managed volumes on the host of a command: attached for it, and its access ended afterwards.

The row of an attachment is written before the storage lets the host in, and removed after it was
shut out. So whatever is killed in between, the row says that the host may have access.

A host that answers detaches the volume. One that is silent is shut out by the storage, by force;
that ends what it had sent (docs/adapters.md, "Disconnect means it"). A host that answers and cannot
detach, because something there still uses the volume, is not forced: the volume is kept.

An abort is obeyed between two calls. A call that the host has got is waited for: the host attaches
and detaches a volume in turns, so its detaching could not end earlier, but could come first.
"""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import trio

from engine.answers import HostState
from engine.commands.ends import End, ManagedEnd
from engine.commands.run import Run
from engine.commands.stage import Kept, Thing
from engine.commands.undoing import GivenUp, tried
from engine.db import attachments
from engine.host_view import called_of
from protocol.client import HostError
from protocol.errors import (
    AccessNotCut,
    ActionStopped,
    CannotConnect,
    ConnectionLost,
    Error,
    ManagedVolumeAlreadyAttached,
    ManagedVolumeConnectionMismatch,
    NoSuchManagedVolume,
    NoSuchObject,
    StillUsed,
)
from protocol.managed import Connector

log = logging.getLogger(__name__)

# Nothing can be asked of the host: not connected, lost, no answer in time, or removed.
SILENCE = (CannotConnect, ConnectionLost, NoSuchObject)
STALE = (ManagedVolumeAlreadyAttached.code, ManagedVolumeConnectionMismatch.code)
ACTION = (
    "make host or storage work, then clear the command; a host that is off for good may be removed"
    " once the storage has shut it out"
)


@dataclass(frozen=True)
class Access:
    """Of one host to managed volumes. connector: as the host told it before the first attach."""

    host: str
    connector: Connector

    @classmethod
    def of(cls, run: Run) -> "Access":
        return cls(run.facts["host"], msgspec.convert(run.facts["connector"], Connector))


async def attached(run: Run, end: ManagedEnd) -> str:
    """Attach a volume for a command that runs; the url, or path, by which its host knows it.

    It may be called again. Raises HostError; CannotConnect, ConnectionLost, ActionStopped (443): it
    may be attached nevertheless; what ManagedStorage.connect_volume does.
    """
    access = Access.of(run)
    await _begun(run, end.volume, access.host)
    storage = await run.services.storage(end.domain)
    connection = await storage.connect_volume(end.volume, access.connector)
    if run.abort_asked.is_set():
        raise ActionStopped
    told = await _attach(run, access.host, end, msgspec.to_builtins(connection))
    url = str(told["managed_path"] or told["path"])
    await run.write(partial(attachments.there, volume=end.volume, host=access.host, path=url))
    return url


async def _begun(run: Run, volume: str, host: str) -> None:
    """The row. Raises StillUsed (4406): the host has the volume for another command; ActionStopped
    (443)."""
    times = run.services.copies
    for left in reversed(range(times.calls)):
        try:
            begin = partial(attachments.begin, volume=volume, host=host, command=run.id)
            return await run.write(begin)
        except StillUsed:  # a leftover perhaps, which is just being tidied up
            if not left:
                raise
        await _pause(run)


async def _pause(run: Run) -> None:
    """Before the next call. Raises ActionStopped (443)."""
    with trio.move_on_after(run.services.copies.pause):
        await run.abort_asked.wait()
        raise ActionStopped


async def _attach(
    run: Run, host: str, end: ManagedEnd, connection: dict[str, Any]
) -> dict[str, Any]:
    """What the host told of the attached volume."""
    times, fleet = run.services.copies, run.services.fleet
    params = {"vol_id": end.volume, "sd_id": end.domain, "connection_info": connection}
    for left in reversed(range(times.calls)):
        try:
            told: dict[str, Any] = await fleet.call(
                host, "ManagedVolume.attach_volume", params, timeout=times.attach
            )
            return told
        except HostError as e:
            if e.number not in STALE or not left:
                raise
            # By a call whose answer was lost, or from before the storage shut the host out: then
            # it leads nowhere. Nothing uses it yet, so it is made anew.
            await fleet.call(host, "ManagedVolume.detach_volume", {"vol_id": end.volume})
        except (CannotConnect, ConnectionLost) as e:
            if not left:
                raise
            log.info("host %s gave no answer about volume %s: %s", host, end.volume, e)
            await _pause(run)
    raise AssertionError("unreachable: the last round returns or raises")


async def cut(run: Run, end: ManagedEnd) -> None:
    """End the access of the command's host to a volume, if it may have any.

    When this returns nothing that the host sent will still be written. It may be called again.
    Raises AccessNotCut: host or storage did not do it; nothing may be made of the volume then.
    """
    row = await run.read(partial(attachments.find, volume=end.volume, command=run.id))
    if row is None or row.shut_out:
        return
    access = Access.of(run)
    await run.write(partial(attachments.leave, volume=end.volume, host=access.host))
    try:
        answered = await _detached(run, access.host, end.volume)
        await _disconnect(run, end, access.connector)
    except Error as e:
        raise AccessNotCut(end.volume, _called(run), str(e)) from e
    if answered:
        ended = partial(attachments.remove, volume=end.volume, host=access.host, command=run.id)
    else:
        log.warning("host %s is silent: shut out from volume %s", access.host, end.volume)
        ended = partial(attachments.shut_out, volume=end.volume, host=access.host)
    await run.write(ended)


async def cut_patiently(run: Run, end: ManagedEnd) -> None:
    """The same, tried as often as an undo is. Raises AccessNotCut."""
    try:
        await tried(lambda: cut(run, end), run)
    except GivenUp as e:
        raise AccessNotCut(end.volume, _called(run), e.reason) from e


def _called(run: Run) -> str:
    return called_of(run.services.fleet.views(), run.facts["host"])


async def _detached(run: Run, host: str, volume: str) -> bool:
    """False: the host is silent. Raises HostError: it answers, and cannot."""
    times, fleet = run.services.copies, run.services.fleet
    for _ in range(times.calls):
        try:
            await fleet.call(
                host,
                "ManagedVolume.detach_volume",
                {"vol_id": volume},
                timeout=times.attach,
                wait=times.silent,
            )
            return True
        except SILENCE as e:
            log.info("host %s gave no answer about volume %s: %s", host, volume, e)
            if fleet.state(host) is not HostState.UP:  # it had its time to connect again
                return False
        await trio.sleep(times.pause)
    return False


async def _disconnect(run: Run, end: ManagedEnd, connector: Connector) -> None:
    storage = await run.services.storage(end.domain)
    try:
        await storage.disconnect_volume(end.volume, connector)
    except NoSuchManagedVolume:
        log.info("volume %s is gone already", end.volume)


def kept(run: Run, end: End) -> Kept:
    """What is in quarantine when `cut` was given up."""
    return Kept(Thing.ATTACHMENT, end.volume, end.domain, host=run.facts["host"], action=ACTION)
