"""Which host does a piece of work. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from engine.host_view import HostView
from engine.names import with_id
from protocol.errors import NoHostFits


@dataclass(frozen=True)
class Place:
    """A host that may do it. copies: that it does, or is about to do, as the engine counts.

    limit: how many it is given at once; it is never given more than it says that it does at once.
    """

    host: HostView
    copies: int = 0
    limit: int | None = None

    @property
    def most(self) -> int:
        """The copies that it is given at once."""
        told = self.host.capabilities
        own = told.limits.concurrency if told else 0
        return own if self.limit is None else min(own, self.limit)


@dataclass(frozen=True)
class Busy:
    """A storage domain that the work reads or writes. limit: copies at once; None: any number."""

    name: str
    copies: int
    limit: int | None = None


@dataclass(frozen=True)
class Need:
    """What the work needs of its host.

    domains: ids of data domains that it must see: of the lease, of each image end. drivers: of
    managed ends, as in `drivers` of Host.getCapabilities; connects: there are such ends. schemes:
    of urls that it is given as they are: "path", "nbd", ... . busy: the domains of both ends.
    without: hosts that are not to do it. called: names of domains by their ids, for people.
    """

    domains: frozenset[str] = frozenset()
    drivers: frozenset[str] = frozenset()
    schemes: frozenset[str] = frozenset()
    busy: tuple[Busy, ...] = ()
    without: frozenset[str] = frozenset()
    connects: bool = False
    called: Mapping[str, str] = field(default_factory=dict)


def choose(places: Sequence[Place], need: Need) -> str:
    """The id of the host with the least load that fits; of those the first by id.

    Load: running copies as a share of what the host does at once. Raises NoHostFits (4404), which
    tells of each host why not.
    """
    if full := [one for one in need.busy if one.limit is not None and one.copies >= one.limit]:
        raise NoHostFits("; ".join(map(_full, full)))
    against = {place.host.id: next(_against(place, need), None) for place in places}
    fitting = [place for place in places if against[place.host.id] is None]
    if not fitting:
        told = [f"{place.host.name}: {against[place.host.id]}" for place in places]
        raise NoHostFits("; ".join(told) or "there is no host")
    return min(fitting, key=lambda place: (place.copies / place.most, place.host.id)).host.id


def _full(domain: Busy) -> str:
    return f"domain {domain.name} has {domain.copies} copies at once, its limit is {domain.limit}"


def _against(place: Place, need: Need) -> Iterator[str]:
    """Why a host does not fit, what weighs most first."""
    host, told = place.host, place.host.capabilities
    if host.id in need.without:
        yield "it is not to do this"
    if host.maintenance:
        yield "it is in maintenance"
    if not host.up:
        yield f"it is {host.state}: {host.reason}"
    if told is None:
        yield "it has not told yet what it can do"
        return
    if told.drained:
        yield "it is drained: it starts no job until it is activated (Host.resume)"
    for sd_id in sorted(need.domains):
        if not told.sees(sd_id):
            name = need.called.get(sd_id)
            yield f"it has not joined domain {with_id(name, sd_id) if name else sd_id}"
    if need.connects and host.twin:
        yield f"it gets no managed volumes: {host.twin}"
    if missing := sorted(need.drivers.difference(told.drivers)):
        yield f"it cannot attach volumes of {', '.join(missing)}"
    if missing := sorted(need.schemes.difference(told.endpoints.schemes)):
        yield f"it allows no urls of {', '.join(missing)}"
    if place.copies >= place.most:
        yield f"it has {place.copies} copies at once, its limit is {place.most}"
