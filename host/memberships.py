"""The memberships of this host: it stays in the lockspaces that it was told to join.

A sanlock daemon that was started anew, by the start of the host or after its death, has joined
nothing. What clients have activated is joined again then, as they said, without being asked.
Source: docs/failures.md, leases/joining.py.
"""

import structlog
import trio

from endpoints.domain import lockspace_of
from host import domains
from host.this_host import ThisHost
from leases import daemon, ids, lockspace
from leases.daemon import Refused
from leases.membership import asked
from protocol.errors import InvalidDomain, SanlockUnavailable
from protocol.groups import telling
from storage.domain import Domain

log = structlog.get_logger()

LOOK = 5.0  # seconds between two looks which lockspaces this host is in
FIRST_WAIT = 1.0  # seconds after a joining that failed; doubled up to LAST_WAIT
LAST_WAIT = 60.0
ANSWER_TIME = 30.0  # seconds for the storage of a domain to answer
JOIN_TIME = 1800.0  # seconds; more than the death of a host takes with any usual io_timeout
_HANGING = 2  # looks at one domain that may hang at a time


async def keep_joined(host: ThisHost) -> None:
    """Join again what this host is not in any more, until cancelled; each domain by itself.

    Raises nothing: a joining that fails is logged and tried again, ever more seldom. It waits for
    no other, however long the storage of one domain takes to answer.
    """
    trying: set[str] = set()

    async def join(sd_id: str) -> None:
        try:
            await _Joining(host, sd_id).run()
        finally:
            trying.discard(sd_id)

    async with trio.open_nursery() as nursery:
        while True:
            for sd_id in await _missing(host):
                if sd_id not in trying:
                    trying.add(sd_id)
                    nursery.start_soon(join, sd_id, name=f"join {sd_id}")
            await trio.sleep(LOOK)


async def _missing(host: ThisHost) -> list[str]:
    """The domains that were activated and that the daemon knows nothing of."""
    wanted = host.domains.host_ids
    if not wanted:
        return []  # and most hosts without any have no daemon to ask
    try:
        known = {one.sd_id for one in await asked(daemon.memberships)}
    except (SanlockUnavailable, Refused):
        known = set()
    return [sd_id for sd_id in wanted if sd_id not in known]


class _Joining:
    """The tries to join one domain again."""

    def __init__(self, host: ThisHost, sd_id: str) -> None:
        self._host = host
        self._sd_id = sd_id
        # Storage that hangs keeps its threads: these are all that it gets of ours.
        self._limiter = trio.CapacityLimiter(_HANGING)
        self._reason = ""  # of the last failure

    async def run(self) -> None:
        """Until it is joined, or not to be any more."""
        wait = FIRST_WAIT
        while self._wanted is not None:
            try:
                async with self._host.turns.of_agent(self._sd_id):
                    await self._join()
                return  # joined, or a client does something about it
            except Exception as e:
                self._tell(str(telling(e)), wait)
            await trio.sleep(wait)
            wait = min(wait * 2, LAST_WAIT)

    @property
    def _wanted(self) -> int | None:
        """As which host to join."""
        return self._host.domains.host_ids.get(self._sd_id)

    async def _join(self) -> None:
        """Raises as leases.lockspace.join and storage.domain.load; TimeoutError."""
        host_id = self._wanted
        if host_id is None:
            return  # a client had its turn before
        domain = await self._readable()
        with trio.move_on_after(JOIN_TIME) as scope:
            member = await lockspace.join(
                lockspace_of(domain),
                host_id,
                without_watchdog=not self._host.config.storage.require_watchdog,
                warn=lambda text: log.warning(text, domain=self._sd_id),
            )
            log.info("joined again", domain=domain.id, host_id=host_id, life=member.generation)
        if scope.cancelled_caught:
            raise TimeoutError(f"not joined in {JOIN_TIME:g} s")

    async def _readable(self) -> Domain:
        """The domain, whose lockspace could just be read."""
        folder = self._host.domains.folders[self._sd_id]

        def look() -> Domain:
            domain = domains.read(self._sd_id, folder)
            space = lockspace_of(domain)
            if ids.lockspace(space.ids, space.geometry) is None:  # only a client has it formatted
                raise InvalidDomain(domain.path, "dom_md/ids: the lockspace was erased")
            return domain

        with trio.move_on_after(ANSWER_TIME):
            return await trio.to_thread.run_sync(
                look, limiter=self._limiter, abandon_on_cancel=True
            )
        raise TimeoutError(f"its storage has not answered for {ANSWER_TIME:g} s")

    def _tell(self, reason: str, wait: float) -> None:
        tell = log.debug if reason == self._reason else log.warning
        self._reason = reason
        tell("not joined again", domain=self._sd_id, reason=reason, again_in=wait)
