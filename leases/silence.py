"""Whether a host id that seems to be this host's own is perhaps another's, which lives.

The daemon joins at once with an id at which its own name stands: it takes that for its former life.
When it is another host of the same name (a machine that was copied, say), that one loses its
membership, and its leases are free while its jobs write. So before the daemon is asked, the delta
lease is watched: a host that lives renews it.

Nothing else tells. The timestamp is the uptime of whoever wrote it: before its last boot this host
may have had a greater one, and another host may have a smaller one.
Source: docs/formats.md, "Delta lease".
"""

from collections.abc import Callable

import trio

from leases.delta import Delta
from leases.ids import Lockspace
from leases.membership import POLL, delta_of, failure, membership
from protocol.errors import AcquireHostIdFailure


def watch_time(io_timeout: int) -> int:
    """Seconds in which a host that lives has renewed its membership, with a slow write.

    It does so every 2 x io_timeout + 0.5 s (measured with sanlock 3.8.5).
    """
    return 3 * io_timeout + 1


def like_own(found: Delta, name: str) -> bool:
    """Would the daemon of the host `name` take this for its own former life?"""
    return bool(found.timestamp) and found.name == name


async def watched(
    space: Lockspace, host_id: int, found: Delta, seconds: float, report: Callable[[float], None]
) -> Delta:
    """Watch the delta lease of an id, which looks like our own; returns what stands there then.

    seconds: `watch_time`. report: is told how many of them are over.
    Raises AcquireHostIdFailure (661): it was renewed, by another host.
    """
    began = trio.current_time()
    while (elapsed := trio.current_time() - began) < seconds:
        report(elapsed)
        await trio.sleep(POLL)
        now = await delta_of(space, host_id)
        if now == found:
            continue
        if now.timestamp and await membership(space) is None:
            raise in_use(space, host_id, now, found.name)
        return now  # it has left, or another process of this host has just joined
    return found


def in_use(space: Lockspace, host_id: int, owner: Delta, name: str) -> AcquireHostIdFailure:
    """name: of this host."""
    way_out = f"take another id (`leasehold host status {space.sd_id}` lists those in use)"
    who = f"the host {owner.name}"
    if owner.name == name:
        who = f"another host with the name of this one, {name}"
        way_out += ", and give each host a name of its own"
    return failure(space, f"host id {host_id} is in use by {who}: {way_out}")
