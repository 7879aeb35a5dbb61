"""Image.delete: what it refuses, and that it may be called again."""

import uuid
from typing import Any

import pytest

from endpoints.volume import leased_volume
from leases.hold import hold
from protocol.errors import (
    AcquireLockFailure,
    BadParameter,
    StorageDomainDoesNotExist,
    UnsupportedOperation,
)
from protocol.jsonrpc import Forbidden
from storage import volume
from tests.host.verbs.a_host import IMG, MIB, SD, VOL, AHost, div

IDS = {"storagedomainID": SD, "imageID": IMG}
CHILD = "88888888-9999-4aaa-8bbb-cccccccccccc"


@pytest.fixture
async def filled(host: AHost) -> AHost:
    await host.domain()
    await host.volume()
    return host


def images(host: AHost) -> list[str]:
    return sorted(one.name for one in (host.mount / SD / "images").iterdir())


async def test_an_image_is_removed_and_once_more(filled: AHost) -> None:
    assert images(filled) == [IMG]
    for _ in range(2):
        assert await filled.done("Image.delete", **IDS, storagepoolID=SD, discard=False) is None
        assert images(filled) == []


async def test_an_image_of_a_volume_that_is_held_is_kept(filled: AHost) -> None:
    store = await filled.host.store(SD)
    domain = await filled.host.domains.load(SD)
    async with hold(store, await leased_volume(domain, volume.read(domain, IMG, VOL))):
        for force in (False, True):
            status = await filled.task("Image.delete", **IDS, force=force)
            assert (status["code"], status["taskResult"]) == (651, "cleanSuccess")
    assert images(filled) == [IMG]


@pytest.mark.parametrize("role", ["source", "destination"])
async def test_an_image_of_a_job_that_waits_in_the_queue_is_kept(filled: AHost, role: str) -> None:
    other = str(uuid.uuid4())
    await filled.volume(imageID=other, volumeID=CHILD)
    ends = {"source": div(), "destination": div(img_id=other, vol_id=CHILD, generation=0)}
    if role == "destination":
        ends = {"source": div(img_id=other, vol_id=CHILD), "destination": div(generation=0)}
    await filled.call("Host.drain", timeout=0)
    job_id = str(uuid.uuid4())
    await filled.call("SDM.copy_data", job_id=job_id, **ends)
    status = await filled.task("Image.delete", **IDS)
    assert (status["code"], status["error"]["kind"]) == (651, AcquireLockFailure.__name__)
    assert job_id in status["message"]
    assert IMG in images(filled)
    await filled.call("Job.abort", job_id=job_id)
    await filled.done("Image.delete", **IDS)
    assert images(filled) == [other]


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"postZero": True}, UnsupportedOperation),
        ({"imageID": "../x"}, BadParameter),
        ({"force": "yes"}, BadParameter),
        ({"storagedomainID": VOL}, StorageDomainDoesNotExist),
    ],
)
async def test_what_cannot_be_makes_no_task(
    filled: AHost, params: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await filled.call("Image.delete", **{**IDS, **params})
    assert images(filled) == [IMG]


async def test_a_monitor_may_not(filled: AHost) -> None:
    filled.role = "monitor"
    with pytest.raises(Forbidden):
        await filled.call("Image.delete", **IDS)
    assert images(filled) == [IMG]


async def test_a_small_size_is_no_matter(filled: AHost) -> None:
    await filled.volume(volumeID=CHILD, size=MIB)
    await filled.done("Image.delete", **IDS)
    assert images(filled) == []
