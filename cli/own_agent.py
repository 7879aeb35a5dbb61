"""The agent of this host is told when a command beside it joins or leaves a storage domain.

It then joins that domain again by itself, after a restart of the host say, or does so no more: an
agent that was not told would come back into a domain that was left.
"""

import os
from typing import Any

import trio

from cli.output import Output
from cli.remote import HERE
from protocol.address import UnixAddress
from protocol.client import HostError, connected
from protocol.errors import CannotConnect, ConnectionLost, Error, StorageDomainDoesNotExist

UNIX = "unix:"
CONNECT_TIME = 5.0  # seconds
JOINED_TIME = 10.0  # seconds; the host is in the lockspace already
LEAVE_TIME = 660.0  # seconds; more than the daemon gets (leases.membership.SETTLE_TIME)


async def joined(sd_id: str, folder: str, host_id: int, out: Output) -> None:
    """It has to join the domain again from now on; where it cannot be told that is a warning, as
    the host has joined all the same.

    folder: of the domain. Not cut short by a stop, which would say that nothing was done.
    """
    if (agent := _agent()) is None:
        return
    params = {"storagedomainID": sd_id, "path": os.path.dirname(folder), "host_id": host_id}
    with trio.CancelScope(shield=True):
        try:
            await _call(agent, "StorageDomain.activate", params, JOINED_TIME)
        except Error as e:
            does = "may not join" if isinstance(e, ConnectionLost) else "does not join"
            out.warn(
                f"the agent of this host ({agent}) {does} it again by itself: {e}; when that is"
                " mended, say `host join` once more"
            )
            return
    out.note(f"the agent of this host ({agent}) joins it again by itself from now on")


async def leaves(sd_id: str, out: Output) -> None:
    """It has the host leave the domain, and does not join it again.

    Raises HostError: it refuses that; ConnectionLost: whether it was done is not known.
    """
    if (agent := _agent()) is None:
        return
    try:
        await _call(agent, "StorageDomain.deactivate", {"storagedomainID": sd_id}, LEAVE_TIME)
    except CannotConnect as e:
        out.warn(f"the agent of this host was not told, and may join it again: {e}")
    except HostError as e:
        if e.number != StorageDomainDoesNotExist.code:  # then it joins it no more, either
            raise


def _agent() -> UnixAddress | None:
    """None: there is none. LEASEHOLD_HOST may also name that of another host."""
    url = os.environ.get("LEASEHOLD_HOST", "")
    path = (url if url.startswith(UNIX) else HERE).removeprefix(UNIX)
    return UnixAddress(path) if os.path.exists(path) else None


async def _call(agent: UnixAddress, method: str, params: dict[str, Any], seconds: float) -> None:
    async with connected(agent, timeout=CONNECT_TIME) as client:
        await client.call(method, params, timeout=seconds)
