"""Volume.*: what vdsm's clients ask, and what we refuse of it."""

from typing import Any

import pytest

from endpoints.volume import leased_volume
from leases.hold import hold
from protocol.errors import (
    BadParameter,
    ImageDoesNotExistInSD,
    InvalidVolumeMetadata,
    StorageDomainDoesNotExist,
    UnsupportedOperation,
    VolumeDoesNotExist,
)
from storage import volume
from tests.host.verbs.a_host import IMG, MIB, SD, VOL, AHost

IDS = {"volumeID": VOL, "storagedomainID": SD, "imageID": IMG, "storagepoolID": SD}
CHILD = "88888888-9999-4aaa-8bbb-cccccccccccc"
BLANK = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
async def filled(host: AHost) -> AHost:
    await host.domain()
    return host


async def test_a_new_volume_is_told(filled: AHost) -> None:
    await filled.volume(desc="a disk", storagepoolID=SD, initialSize="0", sequence=3)
    info = await filled.call("Volume.getInfo", **IDS)
    assert (info["uuid"], info["image"], info["domain"]) == (VOL, IMG, SD)
    assert (info["format"], info["allocType"], info["voltype"]) == ("RAW", "SPARSE", "LEAF")
    assert (info["capacity"], info["apparentsize"], info["truesize"]) == (MIB, MIB, 0)
    assert (info["legality"], info["status"], info["generation"]) == ("LEGAL", "OK", 0)
    assert (info["parent"], info["children"], info["description"]) == (BLANK, [], "a disk")
    assert info["lease"] == {"path": f"{info['path']}.lease", "offset": 0, "owners": []}


@pytest.mark.tools("qemu-img")
@pytest.mark.parametrize("format", ["COW", 4])
async def test_a_volume_on_another_one(filled: AHost, format: str | int) -> None:
    await filled.volume()
    child = {"volumeID": CHILD, "volFormat": format, "srcImgUUID": IMG, "srcVolUUID": VOL}
    await filled.volume(**child, size=2 * MIB)
    info = await filled.call("Volume.getInfo", **{**IDS, "volumeID": CHILD})
    assert (info["format"], info["parent"], info["capacity"]) == ("COW", VOL, 2 * MIB)
    below = await filled.call("Volume.getInfo", **IDS)
    assert (below["children"], below["voltype"]) == ([CHILD], "INTERNAL")


@pytest.mark.parametrize("none", ["", BLANK, None])
async def test_there_are_three_ways_to_say_that_there_is_no_parent(
    filled: AHost, none: str | None
) -> None:
    await filled.volume(srcImgUUID=none, srcVolUUID=none, volFormat=5, preallocate=1, diskType=2)
    info = await filled.call("Volume.getInfo", **IDS)
    assert (info["parent"], info["allocType"], info["disktype"]) == (BLANK, "PREALLOCATED", "DATA")
    assert info["truesize"] == MIB


async def test_a_volume_is_made_illegal(filled: AHost) -> None:
    await filled.volume(legal=False)
    info = await filled.call("Volume.getInfo", **IDS)
    assert (info["legality"], info["status"], info["generation"]) == ("ILLEGAL", "ILLEGAL", 0)


async def test_a_volume_whose_lease_is_held_tells_its_owner(filled: AHost) -> None:
    await filled.volume()
    store = await filled.host.store(SD)
    domain = await filled.host.domains.load(SD)
    async with hold(store, await leased_volume(domain, volume.read(domain, IMG, VOL))):
        assert (await filled.call("Volume.getInfo", **IDS))["lease"]["owners"] == [1]


async def test_a_volume_is_made_once(filled: AHost) -> None:
    await filled.volume()
    status = await filled.task("Volume.create", **IDS, volFormat="RAW", size=MIB)
    assert (status["code"], status["error"]["kind"]) == (4020, "VolumeExists")


async def test_errors_of_the_work_are_told_by_the_task(filled: AHost) -> None:
    def wanted(**other: Any) -> dict[str, Any]:
        return {**IDS, "volFormat": "COW", "size": MIB, **other}

    status = await filled.task("Volume.create", **wanted(srcVolUUID=VOL))
    assert status["code"] == ImageDoesNotExistInSD.code
    await filled.volume()
    status = await filled.task("Volume.create", **wanted(volumeID=CHILD, srcVolUUID=CHILD))
    assert status["code"] == VolumeDoesNotExist.code
    status = await filled.task("Volume.create", **wanted(volumeID=CHILD, size=-1))
    assert (status["code"], status["error"]["data"]["name"]) == (1000, "capacity")


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"addBitmaps": True}, UnsupportedOperation),
        ({"bitmap": SD}, UnsupportedOperation),
        ({"srcImgUUID": SD, "srcVolUUID": SD}, UnsupportedOperation),
        ({"size": "1G"}, BadParameter),
        ({"size": "1" * 30}, BadParameter),
        ({"size": 1.5}, BadParameter),
        ({"volFormat": 6}, BadParameter),
        ({"preallocate": 0}, BadParameter),
        ({"diskType": 7}, BadParameter),
        ({"volumeID": "x"}, BadParameter),
        ({"storagedomainID": VOL}, StorageDomainDoesNotExist),
    ],
)
async def test_what_cannot_be_made_makes_no_task(
    filled: AHost, params: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await filled.volume(**params)
    assert await filled.call("Host.getAllTasksStatuses") == {}


async def test_what_is_not_there_is_told(filled: AHost) -> None:
    with pytest.raises(ImageDoesNotExistInSD):
        await filled.call("Volume.getInfo", **IDS)
    await filled.volume()
    with pytest.raises(VolumeDoesNotExist):
        await filled.call("Volume.getInfo", **{**IDS, "volumeID": CHILD})
    with pytest.raises(StorageDomainDoesNotExist):
        await filled.call("Volume.getInfo", **{**IDS, "storagedomainID": VOL})
    (filled.mount / SD / "images" / IMG / f"{VOL}.meta").write_text("NONE=####\nEOF\n")
    with pytest.raises(InvalidVolumeMetadata):
        await filled.call("Volume.getInfo", **IDS)
