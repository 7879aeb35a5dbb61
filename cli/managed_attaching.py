"""A volume attached to a host: connected by its storage, then attached there; and the way back.

Each step is noted or can be repeated, and what a call has done it undoes, in reverse, when a later
step fails or the user gives up.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
import trio

from cli import managed_connections as notes
from cli.exits import kind_of
from cli.managed_connections import Connection
from cli.managed_hosts import Attachment, Host
from cli.managed_storage import Opened
from cli.output import Output, explained
from endpoints.locks import Lock, Mode, held
from leases.steps import reached
from protocol.errors import (
    ManagedVolumeAlreadyAttached,
    ManagedVolumeConnectionMismatch,
    ManagedVolumeInUse,
    NoSuchManagedVolume,
    UnsupportedOperation,
)
from protocol.managed import Connector

Step: TypeAlias = Callable[[], Awaitable[None]]
UNDO_TIME = 600.0  # seconds; adapters and helpers end long before


async def attach(opened: Opened, volume: UUID, host: Host, out: Output) -> Attachment:
    """Raises what adapters do, and ManagedVolume.attach_volume; nothing is attached then, or the
    user was told what could not be undone."""
    async with _turn(opened, volume, out):
        if any(row.path is not None for row in await host.rows([str(volume)])):
            raise ManagedVolumeAlreadyAttached(str(volume))
        connector = await host.connector()
        noted = _noted(opened, volume, host)
        if noted is not None and noted.connector.host != connector.host:
            reason = f"it is connected for this host as {noted.connector.host}: detach it first"
            raise ManagedVolumeInUse(str(volume), reason)
        known = noted is None and await _connected(opened, volume, connector)
        connection = Connection(opened.domain.id, volume, host.url, connector)
        undo: list[Step] = []
        try:
            return await _attached(opened, connection, host, undo, keep=known)
        except BaseException as e:
            if kind_of(e) is ManagedVolumeAlreadyAttached:  # just now, by somebody else
                undo = undo[:1] if noted is None else []
            elif kind_of(e) is ManagedVolumeConnectionMismatch:  # the row is not ours
                undo = undo[:-1]
            await _undone(undo, opened, volume, host, out)
            raise


async def _attached(
    opened: Opened, connection: Connection, host: Host, undo: list[Step], *, keep: bool
) -> Attachment:
    """keep: the connection is somebody else's, too: it is not undone."""
    storage, volume = opened.storage, str(connection.volume)
    undo.append(partial(notes.remove, connection))
    await notes.put(connection)
    reached("managed-attach", "noted")
    if not keep:
        undo.append(partial(storage.disconnect_volume, volume, connection.connector))
    info = await storage.connect_volume(volume, connection.connector)
    reached("managed-attach", "connected")
    undo.append(partial(host.detach, volume))
    made = await host.attach(volume, opened.id, msgspec.to_builtins(info))
    reached("managed-attach", "attached")
    if made.attachment is not None:
        await storage.save_device(volume, made.attachment, connection.connector)
    return made


async def _undone(undo: list[Step], opened: Opened, volume: UUID, host: Host, out: Output) -> None:
    """The last step first; one that fails is told, and what was before it is kept."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + UNDO_TIME) as scope:
        for step in reversed(undo):
            try:
                await step()
            except NoSuchManagedVolume:
                continue  # nothing is connected
            except Exception as e:
                out.warn(f"it could not be undone: {explained(e)}; {_way(opened, volume, host)}")
                return
    if scope.cancelled_caught:
        out.warn(f"it was not undone in {UNDO_TIME:g} s; {_way(opened, volume, host)}")


def _way(opened: Opened, volume: UUID, host: Host) -> str:
    option = f" --host {host.url}" if host.url else ""
    return f"`leasehold managed detach {opened.name} {volume}{option}` tries again"


async def detach(opened: Opened, volume: UUID, host: Host, out: Output) -> bool:
    """Whether there was anything to detach.

    Raises ManagedVolumeInUse (4207), also for what was attached or connected by somebody else; and
    as adapters do, and ManagedVolume.detach_volume: it can be repeated.
    """
    async with _turn(opened, volume, out):
        rows = await host.rows([str(volume)])
        noted = _noted(opened, volume, host)
        if noted is None and (not rows or host.url):
            await _must_be_nobodys(opened, volume, host, attached=bool(rows))
            return False
        await host.detach(str(volume))
        reached("managed-detach", "detached")
        if noted is not None:
            await _disconnected(opened, noted, out)
        return True


async def force(
    opened: Opened, volume: UUID, host: Host, only: str | None, out: Output
) -> list[str]:
    """Have the storage shut out the host of this name, or all, whatever they do with the volume.

    The hosts, as far as they are known. What this host lists of it is detached as well, if it can
    be. Raises UnsupportedOperation: an adapter of a vendor knows no single hosts; and as adapters.
    """
    storage = opened.storage
    if only is not None and not storage.is_ours:
        raise UnsupportedOperation("the adapter of this domain can only disconnect all hosts")
    async with _turn(opened, volume, out):
        shut_out = [
            one
            for one in notes.of_volume(opened.domain.id, volume)
            if only in (None, one.connector.host)
        ]
        names = {one.connector.host for one in shut_out}
        names |= {only} if only is not None else set(await _hosts(opened, volume))
        connector = None if only is None else _connector(only, shut_out)
        await storage.disconnect_volume(str(volume), connector)
        for one in shut_out:
            await notes.put(msgspec.structs.replace(one, ended=True))
        for one in shut_out:
            if one.host == host.url and await _left(str(volume), host, out):
                await notes.remove(one)
        return sorted(names)


async def _left(volume: str, host: Host, out: Output) -> bool:
    """A host that was shut out forgets the volume, if it can."""
    try:
        await host.detach(volume)
    except Exception as e:
        out.warn(f"it is disconnected, but the host still lists it: {explained(e)}")
        return False
    return True


def _connector(host: str, known: list[Connection]) -> Connector:
    return known[0].connector if known else Connector(host)


async def _hosts(opened: Opened, volume: UUID) -> list[str]:
    if not opened.storage.is_ours:
        return []
    return (await opened.storage.volume_info(str(volume))).hosts


async def _connected(opened: Opened, volume: UUID, connector: Connector) -> bool:
    """Is it connected for this host, as far as its adapter tells?"""
    return connector.host in await _hosts(opened, volume)


async def _must_be_nobodys(opened: Opened, volume: UUID, host: Host, *, attached: bool) -> None:
    """What this user has not attached is not to be torn away from who has."""
    if not attached and not (
        opened.storage.is_ours and await _connected(opened, volume, await host.connector())
    ):
        return
    what = "attached to" if attached else "connected for"
    reason = f"it is {what} that host, but not by this command; --force disconnects it all the same"
    raise ManagedVolumeInUse(str(volume), reason)


async def _disconnected(opened: Opened, noted: Connection, out: Output) -> None:
    volume, storage = str(noted.volume), opened.storage
    others = [
        one
        for one in notes.of_volume(noted.domain, noted.volume)
        if one.key != noted.key
        and not one.ended
        and (not storage.is_ours or one.connector.host == noted.connector.host)
    ]
    if others:  # they would be shut out, too
        names = ", ".join(one.host or one.connector.host for one in others)
        out.note(f"it stays connected, since {names} has it attached, too")
    else:
        try:
            await storage.disconnect_volume(volume, noted.connector)
        except NoSuchManagedVolume:
            out.note("the storage has no such volume any more")
        reached("managed-detach", "disconnected")
    await notes.remove(noted)


def _noted(opened: Opened, volume: UUID, host: Host) -> Connection | None:
    found = notes.of_volume(opened.domain.id, volume)
    return next((one for one in found if one.host == host.url), None)


@asynccontextmanager
async def _turn(opened: Opened, volume: UUID, out: Output) -> AsyncGenerator[None]:
    """One command at a time attaches or detaches a volume, of all that run on this host."""
    told: list[Any] = []

    def waiting(lock: Lock) -> None:
        if not told:
            told.append(lock)
            out.note("waiting for another command that attaches or detaches this volume")

    async with held([Lock("managed volume", f"{opened.id} {volume}", Mode.EXCLUSIVE)], waiting):
        yield
