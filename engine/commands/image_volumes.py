"""Volumes of images in data domains, made and deleted through any host that sees the domain."""

from collections.abc import Collection
from functools import partial

import trio

from engine.commands import image_places
from engine.commands.managed_volumes import ASKED
from engine.commands.run import Run
from engine.db import called
from engine.fleet import Fleet
from engine.host_view import connecting
from protocol.client import HostError
from protocol.errors import (
    ImageDoesNotExistInSD,
    NoHostFits,
    VolumeDoesNotExist,
    VolumeExists,
)


async def host_for(run: Run, domain: str) -> str:
    """A host that is up and sees the domain. While others connect, as when the engine has just
    begun, it is waited for. Raises NoHostFits (4404)."""
    times, fleet = run.services.copies, run.services.fleet
    with trio.move_on_after(times.met):
        while _seeing(fleet, domain) is None and connecting(fleet.views()):  # noqa: ASYNC110
            await trio.sleep(times.look)
    if (host := _seeing(fleet, domain)) is not None:
        return host
    name = await run.read(partial(called.domain, id=domain))
    raise NoHostFits(f"no host is up that has joined domain {name}")


def _seeing(fleet: Fleet, domain: str) -> str | None:
    for view in fleet.up():
        if view.capabilities is not None and view.capabilities.sees(domain):
            return view.id
    return None


async def created(
    run: Run,
    domain: str,
    image: str,
    volume: str,
    size: int,
    *,
    format: str,
    sparse: bool,
    legal: bool = True,
) -> None:
    """Make the first volume of an image, with ids of ours. When it is there already it is adopted.

    size: bytes. format: "raw" or "cow". legal: false: its content is not to be used yet. Raises
    NoHostFits (4404), and as Fleet.task.
    """
    params = {
        "volumeID": volume,
        "storagedomainID": domain,
        "imageID": image,
        "size": str(size),
        "volFormat": format.upper(),
        "preallocate": "SPARSE" if sparse else "PREALLOCATED",
        "legal": legal,
    }
    try:
        host = await host_for(run, domain)
        await run.note(**{ASKED: volume})
        await run.services.fleet.task(host, "Volume.create", params)
    except HostError as e:
        if e.number != VolumeExists.code or not run.resumed:
            raise


async def deleted(run: Run, domain: str, image: str, *, volumes: Collection[str]) -> None:
    """Delete an image with its volumes; one that is not there is deleted.

    volumes: all of it that the command removes. Raises StillUsed (4406): it has others, and nothing
    was done; NoHostFits (4404), and as Fleet.task: a volume of it is in use, and so on.
    """
    params = {"storagedomainID": domain, "imageID": image}
    host = await host_for(run, domain)
    # Until the rows of these are removed no command begins to make others (`must_be_new`).
    await run.read(lambda c: image_places.must_have_no_other(c, domain, image, volumes))
    try:
        await run.services.fleet.task(host, "Image.delete", params)
    except HostError as e:
        if e.number != ImageDoesNotExistInSD.code:
            raise


async def is_there(run: Run, domain: str, image: str, volume: str) -> bool:
    """Raises NoHostFits (4404), and as Fleet.call."""
    params = {"storagedomainID": domain, "imageID": image, "volumeID": volume}
    try:
        await run.services.fleet.call(await host_for(run, domain), "Volume.getInfo", params)
    except HostError as e:
        if e.number not in (ImageDoesNotExistInSD.code, VolumeDoesNotExist.code):
            raise
        return False
    return True
