"""What the daemon and `ids` say about this host in a lockspace, with the errors made clear."""

import os
from collections.abc import Callable
from typing import TypeVarTuple

import trio

from leases import daemon, delta
from leases.daemon import Membership
from leases.delta import Delta, InvalidDelta
from leases.ids import Lockspace
from leases.worker import T, run
from processes import sanlock
from processes.sanlock import Daemon
from protocol.errors import AcquireHostIdFailure, SanlockUnavailable, ToolFailed, ToolStalled

Args = TypeVarTuple("Args")

ANSWER_TIME = 5.0  # seconds; the daemon answers in milliseconds
SETTLE_TIME = 600.0  # seconds; more than the death of a host takes with any usual io_timeout
POLL = 0.1
_SILENT = "it does not answer; it may be stopped"


async def daemon_facts() -> Daemon:
    """Raises SanlockUnavailable, ToolMissing, BadOutput."""
    try:
        return await sanlock.daemon()
    except ToolStalled:
        raise SanlockUnavailable(daemon.run_dir(), _SILENT) from None
    except ToolFailed as e:
        await asked(daemon.memberships)  # which says better why
        raise SanlockUnavailable(daemon.run_dir(), e.detail) from None


async def asked(call: Callable[[*Args], T], *arguments: *Args) -> T:
    """Ask the daemon something; one that does not answer is left behind."""
    with trio.move_on_after(ANSWER_TIME):
        return await run(call, *arguments, abandon=True)
    raise SanlockUnavailable(daemon.run_dir(), _SILENT)


async def guarded(
    space: Lockspace, call: Callable[[*Args], T], *arguments: *Args, abandon: bool = True
) -> T:
    """Look at the files of the lockspace. Raises AcquireHostIdFailure for what is wrong there.

    abandon: of a call that only reads.
    """
    try:
        return await run(call, *arguments, abandon=abandon)
    except InvalidDelta as e:
        raise failure(space, f"{space.ids} is damaged ({e}): restore it", "read") from None
    except OSError as e:
        reason = f"{e.filename or space.ids}: {e.strerror or e}"
        raise failure(space, reason, "read") from None


def failure(space: Lockspace, reason: str, verb: str = "join") -> AcquireHostIdFailure:
    return AcquireHostIdFailure(space.sd_id, verb, reason)


async def membership(space: Lockspace) -> Membership | None:
    found = await asked(daemon.memberships)
    return next((one for one in found if one.sd_id == space.sd_id), None)


async def delta_of(space: Lockspace, host_id: int) -> Delta:
    return await guarded(space, delta.read, space.ids, host_id, space.geometry)


def same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
