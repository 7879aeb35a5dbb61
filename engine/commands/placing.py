"""Which host does a copy: chosen when one has room, in the transaction that takes the place.

What is at its limit is waited for; what no host could do at rest is refused at once.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import trio
from sqlalchemy import Connection

from engine.commands import loads
from engine.commands.copy_limits import CopyLimits
from engine.commands.ends import GENERATION, Ends, ImageEnd
from engine.commands.run import Run
from engine.commands.stage import Facts
from engine.db import attachments, domains, jobs
from engine.db.domains import Domain
from engine.db.jobs import Job
from engine.host_states import LinkState
from engine.host_view import HostView
from engine.placement import Busy, Need, Place, choose
from protocol.errors import ActionStopped, NoHostFits

log = logging.getLogger(__name__)

# What a host must be able to attach for the adapters of ours. Of others it is not known before.
DRIVERS: Mapping[str, str] = {"file": "file", "tgt": "iscsi", "ceph": "rbd"}


@dataclass(frozen=True)
class Chosen:
    """lease_domain: where the lease of the job will be; None: it needs none."""

    host: str
    lease_domain: str | None


async def placed(run: Run, ends: Ends) -> Facts:
    """host, lease_domain, and the connector of the host, if it will attach something.

    Raises NoHostFits (4404): none does, or none had room for so long; ActionStopped (443); what
    Fleet.connector does.
    """
    chosen = await _chosen(run, ends)
    facts = {"host": chosen.host, "lease_domain": chosen.lease_domain}
    await run.note(**facts)
    if not ends.managed:
        return facts
    connector = await run.services.fleet.connector(chosen.host)
    return {**facts, "connector": msgspec.to_builtins(connector)}


async def _chosen(run: Run, ends: Ends) -> Chosen:
    if job := await run.read(partial(jobs.find, id=run.spec.job)):
        return Chosen(job.host, job.lease_domain)  # before the engine was killed
    times, began = run.services.copies, trio.current_time()
    while True:
        views = run.services.fleet.views()
        try:
            return await run.write(partial(_take, run=run, ends=ends, views=views))
        except NoHostFits as e:
            if trio.current_time() - began >= await _patience(run, ends, views):
                raise
            log.info("command %s waits for a host: %s", run.id, e)
        with trio.move_on_after(times.look):
            await run.abort_asked.wait()
            raise ActionStopped


def _take(c: Connection, run: Run, ends: Ends, views: Sequence[HostView]) -> Chosen:
    """Choose a host and take a place of it. Raises NoHostFits."""
    by_host, limits = jobs.running(c), run.services.limits
    places = [Place(view, by_host.get(view.id, 0), limits.per_host) for view in views]
    chosen = _choose(c, ends, places, loads.by_domain(c), limits)
    job = Job(
        run.spec.job,
        run.id,
        chosen.host,
        chosen.lease_domain,
        generation=GENERATION,
        begun=run.services.clock(),
    )
    jobs.add(c, job)
    return chosen


async def _patience(run: Run, ends: Ends, views: Sequence[HostView]) -> float:
    """Seconds that a host is waited for: some, where one would fit if it was less busy."""
    times = run.services.copies
    if await run.read(partial(_fits_at_rest, ends=ends, views=views)):
        return times.room
    connecting = any(view.state is LinkState.CONNECTING for view in views)
    return times.met if connecting else 0.0


def _fits_at_rest(c: Connection, ends: Ends, views: Sequence[HostView]) -> bool:
    try:
        _choose(c, ends, [Place(view) for view in views], {}, CopyLimits())
    except NoHostFits:
        return False
    return True


def _choose(
    c: Connection,
    ends: Ends,
    places: Sequence[Place],
    by_domain: Mapping[str, int],
    limits: CopyLimits,
) -> Chosen:
    """by_domain: copies that run."""
    known = domains.all_domains(c)
    found = {end.domain: domains.get(c, end.domain) for end in (ends.source, ends.target)}
    need = Need(
        domains=ends.images,
        drivers=frozenset(filter(None, (_driver(found[end.domain]) for end in ends.managed))),
        connects=bool(ends.managed),
        called={one.id: one.name for one in known},
        busy=tuple(_busy(one, by_domain.get(one.id, 0), limits) for one in found.values()),
        without=frozenset(
            one.host
            for end in ends.managed
            for one in attachments.of_volume(c, end.volume)
            if not one.shut_out
        ),
    )
    if isinstance(ends.target, ImageEnd):
        return Chosen(choose(places, need), None)
    return _with_lease(places, need, _lease_domains(known, places))


def _with_lease(places: Sequence[Place], need: Need, lease_domains: Sequence[str]) -> Chosen:
    """In the first domain for leases that a fitting host sees."""
    error = NoHostFits("there is no data domain that the lease of a job could be in")
    for domain in lease_domains:
        try:
            return Chosen(choose(places, replace(need, domains=need.domains | {domain})), domain)
        except NoHostFits as e:
            error = e
    raise error


def _lease_domains(known: Iterable[Domain], places: Sequence[Place]) -> list[str]:
    """Those that most hosts see first: any of them can tell what became of a job."""
    told = [place.host.capabilities for place in places if place.host.up]
    seen = {
        one.id: sum(1 for capabilities in told if capabilities and capabilities.sees(one.id))
        for one in known
        if one.kind == "data" and one.state == "active"
    }
    return sorted(seen, key=lambda id: (-seen[id], id))


def _busy(domain: Domain, running: int, limits: CopyLimits) -> Busy:
    own = domain.limits.get("copies")
    return Busy(domain.name, running, limits.per_domain if own is None else own)


def _driver(domain: Domain) -> str | None:
    return DRIVERS.get(str(domain.options.get("adapter")))
