"""What the local disks of this host forbid to be done to their sources.

The rules are those of protocol/local_disk_policy.py; here is found whom they are about.
"""

from collections.abc import Callable
from pathlib import Path

import trio

from host.local_disk_here import in_agent
from host.local_disk_rights import none_here
from host.this_host import ThisHost
from protocol.errors import ToolMissing, VolumeGroupMissing
from protocol.local_disk_policy import Facts, Operation, check
from storage.domain import Domain


async def check_domain(host: ThisHost, operation: Operation, domain: Domain) -> None:
    """Raise UnsupportedOperation (2009): a disk of this host is a copy of an image in the domain.

    Raises also what LVM does when it fails: then it is not known.
    """
    images = await _copied_images(host)

    def there() -> bool:
        return any((Path(domain.path) / "images" / image).is_dir() for image in images)

    await _check(operation, there)


async def check_image(host: ThisHost, operation: Operation, image_id: str) -> None:
    """As check_domain, for one image."""
    images = await _copied_images(host)
    await _check(operation, lambda: image_id in images)


async def _check(operation: Operation, copied: Callable[[], bool]) -> None:
    check(operation, Facts(copy=await trio.to_thread.run_sync(copied, abandon_on_cancel=True)))


async def _copied_images(host: ThisHost) -> set[str]:
    """The images that local disks are copies of; none where no local disks can be."""
    if await none_here(host.config.localdisk):
        return set()
    try:
        disks = await in_agent(host).disks.all()
    except (ToolMissing, VolumeGroupMissing):
        return set()
    return {disk.image_id for disk in disks if disk.image_id is not None}
