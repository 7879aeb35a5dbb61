"""The copy that a specification asks for: its messages made into endpoints and a store."""

import time
from collections.abc import Collection, Mapping
from typing import Any

from endpoints.copy_data import CopyRequest, Endpoint, copy
from endpoints.div import CopyDataDivEndpoint
from endpoints.domain import open_store
from endpoints.external import CopyDataExternalEndpoint, local_name
from endpoints.local import CopyDataLocalDiskEndpoint
from endpoints.url import parse
from host import looking
from host.folder import LocalGroup, Spec
from host.membership_wait import until_joined
from jobs.progress import Progress, Report
from processes.lvm import Lvm
from protocol.errors import BadParameter, StorageDomainDoesNotExist
from protocol.messages import DivEndpoint, ExternalEndpoint, LocalEndpoint, decode_endpoint
from protocol.messages import Endpoint as Message
from storage import domain
from storage.domain import Domain
from storage.image import Policy
from storage.local_disks import LocalDisks


def messages(spec: Spec) -> tuple[Message, Message]:
    """Source and destination. Raises BadParameter (1000)."""
    source = decode_endpoint(spec.source, role="source")
    return source, decode_endpoint(spec.destination, role="destination")


def named_domains(*ends: Message) -> set[str]:
    """The ids of the storage domains that the endpoints name."""
    named = {str(end.sd_id) for end in ends if isinstance(end, DivEndpoint)}
    leases = (end.lease for end in ends[1:] if not isinstance(end, DivEndpoint))
    return named | {str(lease.sd_id) for lease in leases if lease is not None}


async def opened(spec: Spec) -> dict[str, Domain]:
    """The domains of a specification, by id, read anew. Raises what storage.domain.load raises."""
    return {
        # It only reads: an abort does not wait for storage that hangs.
        sd_id: await looking.look(folder, domain.load, folder)
        for sd_id, folder in spec.domains.items()
    }


def request(spec: Spec, domains: Mapping[str, Domain]) -> CopyRequest:
    """Raises BadParameter (1000), StorageDomainDoesNotExist (358)."""
    source, destination = messages(spec)
    return CopyRequest(
        job_id=str(spec.job_id),
        source=_endpoint(source, spec, domains),
        destination=_endpoint(destination, spec, domains),
        policy=Policy(allow=spec.allow),
        create_under=spec.create_under,
        limit=spec.limit,
        stall_time=spec.stall_time,
        verify=spec.verify,
        copy_bitmaps=spec.copy_bitmaps,
    )


async def copied(spec: Spec, report: Report) -> dict[str, Any]:
    """Do it; returns and raises as endpoints.copy_data.copy."""
    domains = await opened(spec)
    _, destination = messages(spec)
    [sd_id] = named_domains(destination, destination)
    domain = _domain(sd_id, domains)
    if spec.join_time:
        waits = Progress(stage=f"waiting until this host has joined storage domain {sd_id}")
        await until_joined(domain, spec.join_time, lambda: report(waits))
    store = await open_store(domain, spec.store)
    return await copy(
        request(spec, domains), store, report, now=time.time, hardware_id=spec.hardware_id
    )


def local_disks(group: LocalGroup | None) -> LocalDisks:
    """Raises BadParameter (1000): it is not told where they are, or by a name that cannot be."""
    if group is None:
        raise BadParameter("local", "it is not told where local disks are")
    lvm = Lvm(group.volume_group, group.devices, group.helper, group.dev)
    return LocalDisks(lvm, group.thin_pool)


def endpoint(
    message: DivEndpoint | ExternalEndpoint,
    domains: Mapping[str, Domain],
    *,
    real: Collection[str] = (),
) -> Endpoint:
    """real: see Spec. Raises BadParameter (1000), StorageDomainDoesNotExist (358)."""
    if isinstance(message, DivEndpoint):
        return CopyDataDivEndpoint(message, _domain(str(message.sd_id), domains))
    is_real = local_name(parse(message.url)) in real
    return CopyDataExternalEndpoint.read(message, real=is_real)


def _endpoint(message: Message, spec: Spec, domains: Mapping[str, Domain]) -> Endpoint:
    if isinstance(message, LocalEndpoint):
        return CopyDataLocalDiskEndpoint(message, local_disks(spec.local), str(spec.job_id))
    return endpoint(message, domains, real=spec.real)


def _domain(sd_id: str, domains: Mapping[str, Domain]) -> Domain:
    if sd_id not in domains:
        raise StorageDomainDoesNotExist(sd_id)
    return domains[sd_id]
