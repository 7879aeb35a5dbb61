"""The attempt to join a lockspace as one host id, when nothing of this host is in its way.

Times are those measured with sanlock 3.8.5.
"""

import errno
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import trio

from leases import daemon, ids, silence
from leases.daemon import Refused
from leases.delta import Delta
from leases.ids import DEFAULT_IO_TIMEOUT, Lockspace
from leases.membership import POLL, asked, delta_of, failure, guarded, membership
from leases.worker import run
from processes.sanlock import Daemon
from protocol.errors import SanlockUnavailable

Report = Callable[[float, float], None]
"""Told how long joining has taken, and how long it takes as a rule; seconds."""

_LEAVE_TIME = 5.0  # seconds; a joining that is cancelled has ended after 1.5


@dataclass(frozen=True)
class Member:
    """This host in a lockspace. generation: how often it has joined, ever."""

    host_id: int
    name: str
    generation: int
    io_timeout: int


def usual_time(io_timeout: int) -> int:
    """Seconds to join with an id that was left in order, or whose last owner was this host."""
    return 2 * io_timeout + 1


def death_time(io_timeout: int) -> int:
    """Seconds until a host that is silent counts as dead."""
    return 8 * io_timeout + 60


class Attempt:
    """unwatched: what stands in the delta lease of the id, when the daemon would take that for this
    host's own and it was not watched yet."""

    def __init__(self, space: Lockspace, host_id: int, facts: Daemon, report: Report) -> None:
        self._space = space
        self._host_id = host_id
        self._name = facts.host_name
        self._report = report
        self._watched: Delta | None = None
        self._watch_time = 0
        self.unwatched: Delta | None = None

    async def watch(self) -> None:
        """Raises AcquireHostIdFailure (661): `unwatched` is another's, which lives."""
        if self.unwatched is None:
            return
        io_timeout = self.unwatched.io_timeout or DEFAULT_IO_TIMEOUT
        self._watch_time = silence.watch_time(io_timeout)
        whole = self._watch_time + usual_time(io_timeout)
        self._watched = await silence.watched(
            self._space,
            self._host_id,
            self.unwatched,
            self._watch_time,
            lambda elapsed: self._report(elapsed, whole),
        )
        self.unwatched = None

    async def joined(self) -> Member | None:
        """Join, and wait until that is done.

        None: there is something to watch first, or somebody else has just begun to join. Raises
        AcquireHostIdFailure (661); the daemon is left as it was then, and when it is cancelled.
        """
        before = await delta_of(self._space, self._host_id)
        if silence.like_own(before, self._name) and before != self._watched:
            self.unwatched = before
            return None
        space, host_id = self._space, self._host_id
        lockspace = await guarded(space, ids.lockspace, space.ids, space.geometry)
        io_timeout = (lockspace and lockspace.io_timeout) or DEFAULT_IO_TIMEOUT
        former = before if before.timestamp and before.name != self._name else None
        usual = usual_time(io_timeout) + (death_time(io_timeout) if former else 0)
        try:
            await run(daemon.join, space.sd_id, host_id, space.ids, io_timeout)
        except Refused as e:
            if e.number in (errno.EEXIST, errno.EINPROGRESS):
                return None
            raise failure(space, str(e)) from None
        try:
            return await self._settled(former, usual, io_timeout)
        except BaseException:
            with trio.move_on_after(_LEAVE_TIME, shield=True):
                await self._abandon()
            raise

    async def _settled(self, former: Delta | None, usual: float, io_timeout: int) -> Member:
        """Wait until the daemon has done it. former: owner of the id, of another name."""
        space, host_id, name = self._space, self._host_id, self._name
        began = trio.current_time()
        while (answer := await asked(daemon.joined, space.sd_id, host_id, space.ids)) is None:
            elapsed = trio.current_time() - began
            self._report(self._watch_time + elapsed, self._watch_time + usual)
            if former:
                await self._check_silent(former)
            await trio.sleep(POLL)
        own = await delta_of(space, host_id)
        if answer and own.name == name:
            return Member(host_id, name, own.owner_generation, io_timeout)
        if own.timestamp and own.name != name:
            raise silence.in_use(space, host_id, own, name)
        raise failure(space, "the daemon gave up; `sanlock client log_dump` tells why")

    async def _check_silent(self, former: Delta) -> None:
        """Raise if the former owner of the id still renews: no need to wait for its death."""
        now = await delta_of(self._space, self._host_id)
        if now.timestamp and now.name != self._name and now != former:
            raise silence.in_use(self._space, self._host_id, now, self._name)

    async def _abandon(self) -> None:
        """End joining; the daemon comes to it in a second or two."""
        space = self._space
        with suppress(Refused, SanlockUnavailable):
            await run(daemon.leave, space.sd_id, self._host_id, space.ids, abandon=True)
            while await membership(space) is not None:  # noqa: ASYNC110 (the daemon does it)
                await trio.sleep(POLL)
