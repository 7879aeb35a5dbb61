"""`leasehold localdisk prepare` on this host, in the foreground."""

import os
import uuid
from collections import deque
from typing import Any

import msgspec
import trio

from cli import known
from cli.agent import environment
from cli.foreground import STOPPING
from cli.hardware import hardware_id
from cli.interrupt import Interrupt
from cli.localdisk_ended import amounts, ended, ready
from cli.localdisk_request import Order
from cli.output import Output
from cli.progress import follow
from endpoints import disk
from endpoints.url import parse
from host import config_file, local_disks
from host.config import Config
from host.local_disk_request import Prepared
from jobs.job import Job, Report, Status
from protocol.errors import ActionStopped
from protocol.messages import Format
from protocol.reported import Reported
from storage.image import Policy

LOOK = "look with `leasehold localdisk list`; the same command tries again"


async def prepared(order: Order, out: Output, interrupt: Interrupt) -> int:
    """Do what was ordered; returns the exit code.

    Raises every error that is found before there is a job. ActionStopped (443): aborted so early.
    """
    with trio.CancelScope() as scope:
        interrupt.then(scope.cancel)
        here = await local_disks.in_foreground(await _config(order), await hardware_id())
        request = order.request(await _format(order))
    if scope.cancelled_caught:
        raise ActionStopped
    made: Prepared | None = None

    async def work(report: Report) -> dict[str, Any]:
        nonlocal made
        if interrupt.asked:
            job.abort()
        made = await local_disks.prepared(here, request, report)
        return made.to_rpc()

    what = f"local disk {order.vol_id} from {order.source}"
    job = Job(str(uuid.uuid4()), work, description=what)
    said = deque([f"preparing {what}"])
    interrupt.then(lambda: _stop(job, interrupt, said))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, job, said, out)
        await job.run()
        nursery.cancel_scope.cancel()
    if made is not None and job.status is Status.DONE:
        return ready(order, made, None if made.reused else amounts(job.info()), None, out)
    # What is wrong before there is a copy is raised; what the copy ended with is reported.
    return ended(order, job, None, out, began=isinstance(job.error, Reported), look=LOOK)


async def _config(order: Order) -> Config:
    """That of the agent, with what this user has named or knows."""
    config = config_file.load(None, environment())
    storage, endpoints = config.storage, config.endpoints
    mounts = [os.path.dirname((await known.opened(sd_id)).path) for sd_id in _domains(order)]
    return msgspec.structs.replace(
        config,
        storage=msgspec.structs.replace(storage, mounts=(*storage.mounts, *mounts)),
        endpoints=msgspec.structs.replace(endpoints, backing=(*endpoints.backing, *order.allow)),
    )


def _domains(order: Order) -> list[str]:
    """Those that this user knows of the ones that are named; the others the host may know."""
    named = [order.domain] if order.domain else []
    named += [order.source.split("/")[0]] if order.of_volume else []
    return [sd_id for sd_id in named if sd_id in known.known()]


async def _format(order: Order) -> Format | None:
    """Of a source that is no volume. Raises as endpoints.disk.source."""
    if order.of_volume or order.source_format is not None:
        return order.source_format
    return (await disk.source(parse(order.source), None, Policy(allow=order.allow))).format


def _stop(job: Job, interrupt: Interrupt, said: deque[str]) -> None:
    if job.status.ended:
        return
    if interrupt.asked <= len(STOPPING):
        said.append(STOPPING[interrupt.asked - 1])
    if job.status is not Status.PENDING:  # else its work sees that it was asked
        job.abort()
