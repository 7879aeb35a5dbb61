"""`leasehold copy --dry-run`: what would be done, after everything was checked."""

import uuid
from typing import Any

from cli import exits, known
from cli.foreground import with_domains
from cli.output import Output
from cli.request import Order
from cli.sizes import format_size
from cli.tracking import FIRST_GENERATION, LeaseTracking, VolumeTracking
from endpoints.domain import open_store
from endpoints.dry_run import dry_run
from leases import verbs

NOBODY = str(uuid.UUID(int=0))


async def shown(order: Order, out: Output) -> int:
    """Tell the plan; returns the exit code. Makes no domain and no lease."""
    job_id = order.job_id or NOBODY
    order = await with_domains(order)
    plan = await dry_run(order.request(order.domain or NOBODY, job_id, FIRST_GENERATION))
    tracked = await _tracked(order, job_id)
    manner = {"verify": order.verify, "stall_timeout": order.stall_time, "tracked_by": tracked}
    plan = {"dry_run": True, **plan, **manner}
    out.result(plan, text(plan))
    return exits.OK


async def _tracked(order: Order, job_id: str) -> str:
    """What will track the copy, after a look whether it can. Raises what the copy would raise."""
    if (target := order.target_volume) is not None:
        store = await open_store(target.domain, order.store)
        generation = await VolumeTracking(store, target, job_id).take_up()  # only reads
        return f"the volume itself, generation {generation}"
    domain = await (known.opened(order.domain) if order.domain else known.existing_default())
    if domain is None:
        return "a lease in a new storage domain of this user"
    store = await open_store(domain, order.store, change_index=True)
    await verbs.leases(store)  # its index can be read
    found = await LeaseTracking(store, domain.id, job_id, NOBODY).found()
    which = "a new lease" if found is None else f"the lease that is there, generation {found}"
    return f"{which} in storage domain {domain.id}"


def text(plan: dict[str, Any]) -> str:
    source, target = plan["source"], plan["target"]
    lines = [
        f"source: {source['url']}, {source['format']} {source['kind']},"
        f" {format_size(source['virtual_size'])}, {format_size(source['data'])} of data",
        f"target: {target['url']}, {target['format']} {target['kind']},"
        f" {format_size(target['size'])}, {'exists' if target['exists'] else 'would be created'}",
        f"needs:  {format_size(plan['needed'])}{_of_free(target)}",
        f"how:    {plan['path_taken']}",
        *(f"        {reason}" for reason in plan["why"]),
        f"then:   {'compared with the source' if plan['verify'] else 'flushed, not compared'}",
        f"track:  {plan['tracked_by']}",
        "nothing was written",
    ]
    return "\n".join(lines)


def _of_free(target: dict[str, Any]) -> str:
    return "" if target["free"] is None else f" of {format_size(target['free'])} that are free"
