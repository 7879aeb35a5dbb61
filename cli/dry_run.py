"""`leasehold copy --dry-run`: what would be done, after everything was checked."""

import uuid
from typing import Any

from cli import exits
from cli.foreground import with_domains
from cli.output import Output
from cli.request import Order
from cli.sizes import format_size
from cli.tracking import FIRST_GENERATION
from endpoints.dry_run import dry_run


async def shown(order: Order, out: Output) -> int:
    """Tell the plan; returns the exit code. Makes no domain and no lease."""
    nowhere = str(uuid.UUID(int=0))
    job_id = order.job_id or nowhere
    order = await with_domains(order)
    plan = await dry_run(order.request(order.domain or nowhere, job_id, FIRST_GENERATION))
    out.result({"dry_run": True, **plan}, text(plan))
    return exits.OK


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
        "nothing was written",
    ]
    return "\n".join(lines)


def _of_free(target: dict[str, Any]) -> str:
    return "" if target["free"] is None else f" of {format_size(target['free'])} that are free"
