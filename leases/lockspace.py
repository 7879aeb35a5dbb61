"""The membership of this host in the lockspace of a domain: join, leave, status.

Only the daemon knows who has joined: nothing of it is remembered elsewhere.
Source: docs/formats.md "Delta lease", docs/failures.md.
"""

import errno
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import trio

from leases import daemon, ids
from leases.attempt import Member
from leases.daemon import HostState, Membership, Refused
from leases.delta import Delta
from leases.ids import Lockspace
from leases.joining import join
from leases.membership import (
    POLL,
    SETTLE_TIME,
    asked,
    daemon_facts,
    failure,
    guarded,
    membership,
)
from leases.worker import run
from processes import sanlock
from processes.sanlock import Daemon
from protocol.errors import ToolFailed

__all__ = ["KnownHost", "Lockspace", "Member", "State", "Status", "join", "leave", "status"]


class State(StrEnum):
    """Of this host in a lockspace."""

    JOINED = "joined"
    BETWEEN = "joining or leaving"
    OUT = "not joined"


@dataclass(frozen=True)
class KnownHost:
    """A host that has ever joined. generation: how often.

    state: as sanlock calls it: unknown (to one who is not joined), free (it has left), live, fail,
    dead. age: seconds since this host saw it renew its membership; None: not known.
    """

    host_id: int
    name: str
    state: str
    generation: int
    age: int | None


@dataclass(frozen=True)
class Status:
    """host_id: of this host; None: it is not joined. io_timeout: seconds; None: unformatted."""

    daemon: Daemon
    state: State
    host_id: int | None
    io_timeout: int | None
    hosts: list[KnownHost]


async def leave(space: Lockspace) -> None:
    """Leave the lockspace; nothing is done when this host is not in it. Takes some seconds.

    Raises AcquireHostIdFailure (661): leases in it are held; SanlockUnavailable, ToolMissing.
    """
    await daemon_facts()
    asked = False
    with trio.move_on_after(SETTLE_TIME):
        while (found := await membership(space)) is not None:
            if not asked:
                await _ask_to_leave(space, found)
                asked = True
            await trio.sleep(POLL)
        return
    raise failure(space, f"the daemon has not done it in {SETTLE_TIME:g} s", "leave")


async def status(space: Lockspace) -> Status:
    """Who this host is in the lockspace, and which others have ever joined.

    Raises SanlockUnavailable, ToolMissing, InvalidDomain, AcquireHostIdFailure (661: `ids` is
    damaged).
    """
    facts = await daemon_facts()
    found = await membership(space)
    lockspace = await guarded(space, ids.lockspace, space.ids, space.geometry)
    if lockspace is None:
        return Status(facts, State.OUT, None, None, [])
    known = await guarded(space, ids.members, space.ids, space.geometry)
    state = State.OUT if found is None else State.JOINED if found.joined else State.BETWEEN
    host_id = None if found is None else found.host_id
    hosts = await _hosts(space, known, joined=state is State.JOINED)
    return Status(facts, state, host_id, lockspace.io_timeout, hosts)


async def _hosts(space: Lockspace, known: dict[int, Delta], *, joined: bool) -> list[KnownHost]:
    states: dict[int, HostState] = {}
    seen: dict[int, int] = {}
    if joined:
        with suppress(Refused, ToolFailed):  # it has just been left
            states = {one.host_id: one.state for one in await asked(daemon.hosts, space.sd_id)}
            seen = await sanlock.last_seen(space.sd_id)
    now = time.monotonic()
    return [
        KnownHost(
            host_id,
            one.name,
            states.get(host_id, _by_delta(one)).name.lower(),
            one.owner_generation,
            max(0, int(now - seen[host_id])) if one.timestamp and host_id in seen else None,
        )
        for host_id, one in known.items()
    ]


def _by_delta(one: Delta) -> HostState:
    return HostState.UNKNOWN if one.timestamp else HostState.FREE


async def _ask_to_leave(space: Lockspace, found: Membership) -> None:
    try:
        await run(daemon.leave, found.sd_id, found.host_id, found.path)
    except Refused as e:
        if e.number == errno.EBUSY:
            reason = (
                "jobs of this host hold leases in it: wait for them or abort them"
                f" (`leasehold lease list {space.sd_id}`)"
            )
            raise failure(space, reason, "leave") from None
        if e.number not in (errno.ENOENT, errno.EINPROGRESS, errno.EAGAIN):
            raise failure(space, str(e), "leave") from None
