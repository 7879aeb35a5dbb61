"""What hooks have done: by the agent, or here when it does not run.

Here or there it is the same, under the same locks and leases (host/local_disks.py).
"""

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, replace
from typing import TypeVar

from host import local_disks
from host.config import Config
from host.hooks.by_agent import Agent
from host.hooks.order import Answer, Order, Prepare, Remove
from host.hooks.program import say
from host.hooks.words import Words
from host.local_disk_here import Here, sources_allowed
from host.local_disk_request import Prepared, PrepareRequest
from host.managed_use import NOTHING
from protocol.errors import CannotConnect, Error, StorageDomainDoesNotExist
from protocol.reported import Reported

T = TypeVar("T")


async def worked(order: Order, config: Config) -> Answer:
    """Do it, or have the agent do it. Raises Error."""
    if isinstance(order, Remove):
        return Answer(removed=tuple(await _removed(order, config)))
    return Answer(path=(await _prepared(order, config)).path)


async def _by_agent_or_here(
    config: Config, by_agent: Callable[[Agent], Awaitable[T]], here: Callable[[], Awaitable[T]]
) -> T:
    if config.listen.socket:
        try:
            return await by_agent(Agent(config.listen.socket))
        except CannotConnect as e:
            say(f"{e}; doing it without the agent")
    return await here()


async def _here(config: Config) -> Here:
    """Without the agent, with the same rules for what may be copied: who asks is not root."""
    here = await local_disks.in_foreground(config)
    return replace(here, allowed=sources_allowed(config, NOTHING))


async def _prepared(order: Prepare, config: Config) -> Prepared:
    begun = time.monotonic()
    words = Words(f"local disk {order.vol_id}")

    async def there(agent: Agent) -> Prepared:
        async def prepare(request: PrepareRequest) -> Prepared:
            known = {key: value for key, value in asdict(request).items() if value is not None}
            return await agent.prepared(known, words)

        return await _of_first_known(_requests(order), prepare)

    async def without() -> Prepared:
        here = await _here(config)

        async def prepare(request: PrepareRequest) -> Prepared:
            return await local_disks.prepared(here, request, words)

        return await _of_first_known(_requests(order), prepare)

    made = await _by_agent_or_here(config, there, without)
    if made.changed:
        say(
            f"local disk {order.vol_id}: its source has changed since it was copied; the VM goes on"
            " with its own writes (`leasehold localdisk prepare --again` copies anew)"
        )
    how = "is used again" if made.reused else f"is ready after {time.monotonic() - begun:.1f} s"
    say(f"local disk {order.vol_id} {how}: {made.path}")
    return made


def _requests(order: Prepare) -> Iterator[PrepareRequest]:
    """By its storage domain, under whose locks it is read; then by its path, for a domain that this
    host does not know (one of block storage, or one that only vdsm uses)."""
    ids = {"sd_id": order.sd_id, "img_id": order.img_id, "vol_id": order.vol_id}
    volume = {"endpoint_type": "div", **ids}
    image = {"endpoint_type": "external", "url": order.path, "format": order.format}
    for source in [image] if order.managed else [volume, image]:
        yield PrepareRequest(
            vol_id=order.vol_id,
            img_id=order.img_id,
            backend=order.backend,
            source=source,
            vm_id=order.vm_id,
            start=True,
        )


async def _of_first_known(
    requests: Iterator[PrepareRequest], prepare: Callable[[PrepareRequest], Awaitable[Prepared]]
) -> Prepared:
    unknown: Error | None = None
    for request in requests:
        try:
            return await prepare(request)
        except Error as e:
            if _code(e) != StorageDomainDoesNotExist.code:
                raise
            unknown = e
    assert unknown is not None
    raise unknown


def _code(error: Error) -> int:
    return error.number if isinstance(error, Reported) else error.code


async def _removed(order: Remove, config: Config) -> list[str]:
    if not config.localdisk.delete_on_stop:
        say(f"the local disks of VM {order.vm_id} are kept: localdisk.delete_on_stop is false")
        return []

    async def without() -> list[str]:
        return await local_disks.remove(await _here(config), vm_id=order.vm_id, abort=True)

    removed = await _by_agent_or_here(config, lambda agent: agent.removed(order.vm_id), without)
    for name in removed:
        say(f"local disk {name} is removed: VM {order.vm_id} has stopped")
    return removed
