"""Joining the lockspace of a domain."""

from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager

import trio

from leases import daemon, handover, ids, writers
from leases.attempt import Attempt, Member, Report, usual_time
from leases.daemon import Membership, Refused
from leases.delta import LAST_HOST
from leases.ids import DEFAULT_IO_TIMEOUT, Lockspace
from leases.membership import (
    POLL,
    SETTLE_TIME,
    asked,
    daemon_facts,
    delta_of,
    failure,
    guarded,
    membership,
    same_file,
)
from leases.worker import run
from protocol.errors import BadParameter

__all__ = ["Member", "Report", "join"]

WRITERS_WAIT = 10.0  # seconds; processes of a former life that were killed are gone sooner
_UNSTABLE = (
    "the daemon made up the name {} for this host: after its next start, joining takes more than a"
    " minute instead of seconds; set our_host_name in /etc/sanlock/sanlock.conf (or start it with"
    " -e NAME)"
)
_NO_WATCHDOG = (
    "the daemon runs without its watchdog, which resets a host that loses its storage before"
    " others take its leases; start it with the watchdog, or accept the risk with --no-watchdog"
)
_WRITING = (
    "processes of this host can still write under leases of its former membership: {}; wait for"
    " them, or end them"
)


async def join(
    space: Lockspace,
    host_id: int,
    *,
    without_watchdog: bool = False,
    io_timeout: int = DEFAULT_IO_TIMEOUT,
    wait: float = WRITERS_WAIT,
    report: Report = lambda elapsed, usual: None,
    warn: Callable[[str], None] = lambda text: None,
) -> Member:
    """Join the lockspace with this host id; nothing is done when that is so already.

    without_watchdog: accept a daemon that does not reset the host when it fails. io_timeout:
    seconds, if the lockspace is to be written first. wait: seconds, for writers of a former life of
    this host. report, warn: are told how it goes. Cancelled, it leaves nothing behind.
    Raises BadParameter (host_id), AcquireHostIdFailure (661), SanlockUnavailable, ToolMissing.
    """
    if not 1 <= host_id <= LAST_HOST:
        raise BadParameter("host_id", f"must be 1 to {LAST_HOST}")
    facts = await daemon_facts()
    deadline = trio.current_time() + wait
    attempt = Attempt(space, host_id, facts, report)
    told = False
    while True:
        found = await _settled(space, report)
        if found is not None:
            return await _joined_already(space, found, host_id)
        if not facts.watchdog and not without_watchdog:
            raise failure(space, _NO_WATCHDOG)
        async with _alone(space, io_timeout) as obstacle:
            if obstacle is None:
                if not facts.name_is_stable:
                    warn(_UNSTABLE.format(facts.host_name))
                member = await attempt.joined()
                if member is not None:
                    return member
        if attempt.unwatched:
            # Not alone: another process of this host that wants to join would be refused for that.
            await attempt.watch()
            deadline = trio.current_time() + wait
            continue
        if trio.current_time() >= deadline:
            raise failure(space, f"{obstacle or 'others join it as well'}; waited {wait:g} s")
        if obstacle and not told:
            warn(f"waiting for up to {wait:g} s: {obstacle}")
            told = True
        await trio.sleep(POLL)


@asynccontextmanager
async def _alone(space: Lockspace, io_timeout: int) -> AsyncGenerator[str | None]:
    """Nobody of this host begins to write under a lease in the body; or why not now.

    The lockspace is formatted by then, and of this domain.
    """
    with ExitStack() as stack:
        if await run(stack.enter_context, writers.none_left(space.sd_id)):
            # Not abandoned: what it formats must not be written later, when others have joined.
            obstacle = await guarded(space, _prepared, space, io_timeout, abandon=False)
            if obstacle is None:
                await _check_access(space)
            yield obstacle
        else:
            found = await run(writers.process_ids, space.sd_id)
            yield _WRITING.format(", ".join(map(str, found)) or "of other users")


def _prepared(space: Lockspace, io_timeout: int) -> str | None:
    """Why the lockspace cannot be joined now, or None. Blocks."""
    found = ids.lockspace(space.ids, space.geometry)
    if found is None:
        if obstacle := handover.hand_over(space, io_timeout):
            return obstacle
        found = ids.lockspace(space.ids, space.geometry)
    if found is None or found.space != space.sd_id:
        whose = found.space if found else ""
        raise failure(space, f"{space.ids} is the lockspace of {whose!r}: restore its own")
    return handover.HELD if handover.held(space) else None


async def _check_access(space: Lockspace) -> None:
    try:
        await asked(daemon.lockspace_io_timeout, space.ids, space.geometry)
    except Refused as e:
        reason = f"the daemon cannot read {space.ids}: {e}; its user needs access to it"
        raise failure(space, reason) from None


async def _joined_already(space: Lockspace, found: Membership, host_id: int) -> Member:
    if not await run(same_file, found.path, space.ids):
        reason = f"this host has joined another file of this name: {found.path}"
        raise failure(space, reason)
    if found.host_id != host_id:
        reason = f"this host has joined it with the host id {found.host_id}: leave it first"
        raise failure(space, reason)
    own = await delta_of(space, host_id)
    return Member(host_id, own.name, own.owner_generation, own.io_timeout)


async def _settled(space: Lockspace, report: Report) -> Membership | None:
    """The membership, once it is neither being joined nor left by another process."""
    began = trio.current_time()
    with trio.move_on_after(SETTLE_TIME):
        while (found := await membership(space)) is not None and not found.joined:
            report(trio.current_time() - began, usual_time(DEFAULT_IO_TIMEOUT))
            await trio.sleep(POLL)
        return found
    raise failure(space, f"somebody has been joining or leaving it for {SETTLE_TIME:g} s")
