"""An array that is full: the copy fails, nothing is left, and the next attempt works.

The arrays are the adapters `file` and `tgt`, whose volumes are files of a real, small file system.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.managed_storage import ManagedStorage
from host.helpers import initiator
from jobs.job import Status
from protocol.errors import NoSpaceLeft, ToolFailed
from protocol.managed import Connector
from protocol.record import JobStatus
from tests.conformance.adapters import TOOLS, Site, file_site, tgt_site
from tests.faults.copies import Copies
from tests.faults.disks import small_file_system
from tests.managed_host import HARDWARE_ID, Host
from tests.servers import MIB, pattern, raw_image

SPACE = 48 * MIB
TOO_MUCH = 64 * MIB
ENOUGH = 8 * MIB


@pytest.fixture(
    params=[pytest.param(kind, marks=pytest.mark.tools(*TOOLS[kind])) for kind in ("file", "tgt")]
)
def array(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with small_file_system(tmp_path, SPACE) as place:
        made = file_site(place) if request.param == "file" else tgt_site(place, chap=True)
        with made as site:
            yield site
            assert [one for found in site.traces().values() for one in found] == []


@pytest.fixture
async def host(tmp_path: Path) -> Host:
    return await Host.made(tmp_path / "host")


def connector() -> Connector:
    return Connector("host1", initiator=initiator.name_of(HARDWARE_ID))


async def attached(storage: ManagedStorage, host: Host, volume: str) -> str:
    info = await storage.connect_volume(volume, connector())
    told = {"driver_volume_type": info.driver_volume_type, "data": info.data}
    return str((await host.attach(volume, told)).path)


@pytest.mark.tools("mkfs.ext4", "mount", "losetup", "nbdcopy", "qemu-nbd")
async def test_a_copy_to_an_array_that_is_full_fails_and_leaves_nothing(
    array: Site, host: Host, copies: Copies, tmp_path: Path
) -> None:
    storage, volume = array.storage, array.new_volume()
    await storage.create_volume(volume, 1)
    source = raw_image(tmp_path / "source.raw", TOO_MUCH, data=pattern(TOO_MUCH))
    url = await attached(storage, host, volume)
    job = await copies.copied(source, url)
    assert (job.status, isinstance(job.error, ToolFailed)) == (Status.FAILED, True), job.error
    await copies.assert_recorded(job, JobStatus.FAILED, generation=0)
    await left_alone(storage, host, volume)
    # A volume in its place: what the first had taken is free again.
    await storage.delete_volume(volume)
    second = array.new_volume()
    assert await storage.create_volume(second, 1) is True
    small = raw_image(tmp_path / "small.raw", ENOUGH, data=pattern(ENOUGH))
    await copies.assert_done(await copies.copied(small, await attached(storage, host, second)))
    await left_alone(storage, host, second)
    assert array.look(second, ENOUGH) == pattern(ENOUGH)
    await storage.delete_volume(second)


async def left_alone(storage: ManagedStorage, host: Host, volume: str) -> None:
    """Detached, disconnected, and nothing of it is left on the host."""
    await host.volumes.detach(volume)
    await storage.disconnect_volume(volume, connector())
    host.nothing_is_left()
    assert (await storage.volume_info(volume)).hosts == []


@pytest.mark.tools("mkfs.ext4", "mount", "losetup")
async def test_an_array_that_is_full_takes_no_copy_of_a_volume(array: Site) -> None:
    """ext4 shares no blocks."""
    storage, volume, clone = array.storage, array.new_volume(), array.new_volume()
    await storage.create_volume(volume, 1)
    info = await storage.connect_volume(volume, array.connector("host1"))
    array.write(info, "host1", "write -P 0xaa 0 30M")
    await storage.disconnect_volume(volume)
    for _ in range(2):
        with pytest.raises((NoSpaceLeft, OSError), match="No space left"):
            await storage.clone_volume(volume, clone)
        with pytest.raises((NoSpaceLeft, OSError), match="No space left"):
            await storage.create_snapshot(volume, "s")
    assert await storage.list_volumes() == [volume]
    assert (await storage.volume_info(volume)).snapshots == []
    assert array.look(volume, MIB) == b"\xaa" * MIB
    await storage.delete_volume(volume)
