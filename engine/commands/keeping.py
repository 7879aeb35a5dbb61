"""Quarantine: what is kept because it could not be taken away, and what is kept no more."""

from collections.abc import Iterable

from sqlalchemy import Connection

from engine.commands.stage import Kept, Thing
from engine.db import attachments, disks, leases, quarantine, snapshots, volumes
from engine.db.quarantine import Quarantined

ASK_AGAIN = "`leasehold engine job clear {command}` tries it again"


def keep(
    c: Connection, things: Iterable[Kept], *, command: str, reason: str, action: str, at: float
) -> list[str]:
    """Put things into quarantine; the ids of their rows. One that is there already has the new
    reason from then on."""
    rows = []
    for thing in things:
        told = [ASK_AGAIN.format(command=command), action or thing.action]
        row = Quarantined(
            id=_id(command, thing),
            kind=thing.kind.value,
            object=thing.object,
            domain=thing.domain,
            host=thing.host,
            command=command,
            reason=reason,
            action="; or ".join(text for text in told if text),
            at=at,
        )
        quarantine.put(c, row)
        _mark(c, thing, command)
        rows.append(row.id)
    return rows


def free(c: Connection, things: Iterable[Kept], *, command: str, at: float) -> None:
    """Take out what the stage has taken away itself; of what was not there nothing happens."""
    for thing in things:
        quarantine.clear(c, _id(command, thing), at=at)
        _unmark(c, thing, command)


def forget(c: Connection, things: Iterable[Kept], *, command: str, used: bool = False) -> None:
    """A person has taken it away. used: volumes that disks use, too, which go with them; without it
    these stay, whatever was said."""
    for thing in things:
        match thing.kind:
            case Thing.VOLUME if not used and disks.using(c, thing.object):
                pass
            case Thing.VOLUME if volumes.find(c, thing.object):
                volumes.remove(c, thing.object)
            case Thing.SNAPSHOT if snapshots.find(c, thing.object):
                snapshots.remove(c, thing.object)
            case Thing.LEASE if leases.find(c, thing.object):
                leases.move(c, thing.object, "gone")
            case Thing.ATTACHMENT if thing.host is not None:
                attachments.remove(c, thing.object, thing.host, command)


_TABLES = {Thing.VOLUME: volumes, Thing.SNAPSHOT: snapshots, Thing.LEASE: leases}


def _mark(c: Connection, thing: Kept, command: str) -> None:
    """Its row says so; there is none where the stage had made nothing yet."""
    if thing.kind is Thing.ATTACHMENT:
        attachments.keep(c, thing.object, thing.host or "", command)
    else:
        _TABLES[thing.kind].keep(c, thing.object)


def _unmark(c: Connection, thing: Kept, command: str) -> None:
    """Its row says again what it said before, if it is there still."""
    if thing.kind is Thing.ATTACHMENT:
        attachments.free(c, thing.object, thing.host or "", command)
    else:
        _TABLES[thing.kind].free(c, thing.object)


def _id(command: str, thing: Kept) -> str:
    words = (command, thing.kind.value, thing.object, thing.host)
    return ":".join(word for word in words if word is not None)
