"""Lease.*: results, errors, and what a second call says."""

import uuid
from typing import Any

import pytest

from leases import verbs as leases
from leases.hold import hold
from protocol.errors import (
    AcquireLockFailure,
    BadParameter,
    GenerationMismatch,
    JobStatusMismatch,
    NoSuchLease,
    SanlockLVBError,
    StorageDomainDoesNotExist,
    UnsupportedOperation,
)
from tests.host.verbs.a_host import HARDWARE_ID, SD, AHost, lease, metadata

JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
LEASE = lease(JOB)


@pytest.fixture
async def filled(host: AHost) -> AHost:
    await host.domain()
    return host


async def test_a_new_lease_is_told_and_pending(filled: AHost) -> None:
    made = await filled.done("Lease.create", lease=LEASE, metadata=metadata(JOB))
    assert made == await filled.call("Lease.info", lease=LEASE)
    assert made == {**LEASE, "path": made["path"], "offset": 3 << 20}
    status = await filled.call("Lease.status", lease=LEASE)
    assert (status["owners"], status["version"]) == ([], 0)
    said = status["metadata"]
    assert said["created"] == said["modified"]
    assert said["host_hardware_id"] == HARDWARE_ID
    assert {key: said[key] for key in metadata(JOB)} == metadata(JOB)


async def test_the_same_lease_is_made_again_while_it_is_pending(filled: AHost) -> None:
    first = await filled.done("Lease.create", lease=LEASE, metadata=metadata(JOB))
    again = {**metadata(JOB), "type": "job"}
    assert await filled.done("Lease.create", lease=LEASE, metadata=again) == first
    other = await filled.task("Lease.create", lease=LEASE, metadata=metadata(JOB, generation=1))
    assert (other["taskResult"], other["code"]) == ("cleanSuccess", 4002)
    assert other["error"]["kind"] == "LeaseExists"
    assert other["message"] == other["error"]["message"]


async def test_a_full_volume_is_told_by_the_task(filled: AHost) -> None:
    for _ in range(3):
        await filled.lease()
    assert (await filled.task("Lease.create", lease=LEASE))["code"] == 4003


async def test_metadata_of_a_lease_without_a_record_are_empty(filled: AHost) -> None:
    await filled.done("Lease.create", lease=LEASE)
    assert (await filled.call("Lease.status", lease=LEASE))["metadata"] == {}


async def test_a_held_lease_tells_its_owner_and_is_left_alone(filled: AHost) -> None:
    await filled.lease(JOB)
    store = await filled.host.store(SD)
    async with hold(store, await leases.info(store, JOB)):
        assert await filled.call("Lease.status", lease=LEASE) == {"owners": [1], "version": 1}
        assert (await filled.task("Lease.delete", lease=LEASE))["code"] == 651
        with pytest.raises(AcquireLockFailure):
            await filled.call("Lease.fence", lease=LEASE, metadata=metadata(JOB))
    await filled.done("Lease.delete", lease=LEASE)


async def test_a_held_lease_is_hidden_by_force(filled: AHost) -> None:
    await filled.lease(JOB)
    store = await filled.host.store(SD)
    async with hold(store, await leases.info(store, JOB)):
        await filled.done("Lease.delete", lease=LEASE, force=True)
        with pytest.raises(NoSuchLease):
            await filled.call("Lease.info", lease=LEASE)


async def test_a_lease_that_is_gone_is_deleted_again_without_an_error(filled: AHost) -> None:
    assert await filled.done("Lease.delete", lease=LEASE) is None


async def test_a_fence_ends_a_job_once(filled: AHost) -> None:
    await filled.lease(JOB)
    assert await filled.call("Lease.fence", lease=LEASE, metadata=metadata(JOB)) is True
    said = (await filled.call("Lease.status", lease=LEASE))["metadata"]
    assert (said["job_status"], said["generation"]) == ("FENCED", 1)
    with pytest.raises(JobStatusMismatch):
        await filled.call("Lease.fence", lease=LEASE, metadata=metadata(JOB))


@pytest.mark.parametrize(
    ("other", "error"),
    [
        ({"job_id": str(uuid.uuid4())}, UnsupportedOperation),
        ({"job_status": "FAILED"}, JobStatusMismatch),
        ({"generation": 7}, GenerationMismatch),
    ],
)
async def test_a_fence_of_something_else_is_refused(
    filled: AHost, other: dict[str, Any], error: type[Exception]
) -> None:
    await filled.lease(JOB)
    with pytest.raises(error):
        await filled.call("Lease.fence", lease=LEASE, metadata=metadata(JOB, **other))
    status = await filled.call("Lease.status", lease=LEASE)
    assert status["metadata"]["job_status"] == "PENDING"


async def test_a_lease_that_does_not_exist_is_told(filled: AHost) -> None:
    for method in ("Lease.info", "Lease.status"):
        with pytest.raises(NoSuchLease):
            await filled.call(method, lease=LEASE)
    with pytest.raises(NoSuchLease):
        await filled.call("Lease.fence", lease=LEASE, metadata=metadata(JOB))


async def test_a_domain_that_is_not_known_makes_no_task(host: AHost) -> None:
    for method in ("Lease.info", "Lease.status", "Lease.create", "Lease.delete"):
        with pytest.raises(StorageDomainDoesNotExist):
            await host.call(method, lease=LEASE)
    with pytest.raises(StorageDomainDoesNotExist):
        await host.call("Lease.rebuild_leases", sd_id=SD)
    assert await host.call("Host.getAllTasksStatuses") == {}


async def test_a_damaged_value_block_is_told(filled: AHost) -> None:
    place = await filled.done("Lease.create", lease=LEASE)
    with open(place["path"], "r+b") as file:
        file.seek(place["offset"] + 1_025_024)
        file.write(b"{" + bytes(511))
    with pytest.raises(SanlockLVBError):
        await filled.call("Lease.status", lease=LEASE)


async def test_a_damaged_index_is_rebuilt(filled: AHost) -> None:
    place = await filled.done("Lease.create", lease=LEASE, metadata=metadata(JOB))
    with open(place["path"], "r+b") as file:  # its record, the first in the index
        file.seek((1 << 20) + 512)
        file.write(b"\0" * 49 + b"0" * 11 + b"\0--\n")
    with pytest.raises(NoSuchLease):
        await filled.call("Lease.info", lease=LEASE)
    done = await filled.done("Lease.rebuild_leases", sd_id=SD)
    assert done["restored"] == [{"lease_id": JOB, "offset": place["offset"]}]
    assert await filled.call("Lease.info", lease=LEASE) == place


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({}, "lease"),
        ({"lease": {"sd_id": "x", "lease_id": JOB}}, "lease.sd_id"),
        ({"lease": {"sd_id": SD}}, "lease.lease_id"),
        ({"lease": {"sd_id": SD, "lease_id": "with blank"}}, "lease.lease_id"),
        ({"lease": LEASE, "metadata": metadata("x")}, "metadata.job_id"),
        ({"lease": LEASE, "metadata": metadata(JOB, generation=1000)}, "metadata.generation"),
        ({"lease": LEASE, "metadata": metadata(JOB, type="VM")}, "metadata"),
    ],
)
async def test_a_bad_parameter_is_named_and_nothing_is_made(
    filled: AHost, params: dict[str, Any], name: str
) -> None:
    with pytest.raises(BadParameter) as caught:
        await filled.call("Lease.create", **params)
    assert caught.value.name == name
    with pytest.raises(NoSuchLease):
        await filled.call("Lease.info", lease=LEASE)


async def test_the_leases_of_a_domain_of_a_pool_are_not_changed(filled: AHost) -> None:
    metadata_file = filled.mount / SD / "dom_md" / "metadata"
    text = metadata_file.read_text().replace("POOL_UUID=", f"POOL_UUID={JOB}")
    kept = [line for line in text.splitlines() if not line.startswith("_SHA")]
    metadata_file.write_text("\n".join([*kept, ""]))
    for call in ("Lease.create", "Lease.delete"):
        with pytest.raises(UnsupportedOperation):
            await filled.call(call, lease=LEASE)
    with pytest.raises(UnsupportedOperation):
        await filled.call("Lease.rebuild_leases", sd_id=SD)


@pytest.mark.tools("sanlock")
async def test_leases_of_sanlock_go_the_same_way(shared: AHost) -> None:
    found = await shared.call("Host.getCapabilities")
    assert found["stores"] == ["embedded", "sanlock"]
    assert found["domains"][SD] == {"host_id": 1, "state": "joined"}
    await shared.lease(JOB)
    store = await shared.host.store(SD)
    async with hold(store, await leases.info(store, JOB)):
        assert (await shared.call("Lease.status", lease=LEASE))["owners"] == [1]
        assert (await shared.task("Lease.delete", lease=LEASE))["code"] == 651
    await shared.call("Lease.fence", lease=LEASE, metadata=metadata(JOB))
    said = (await shared.call("Lease.status", lease=LEASE))["metadata"]
    assert (said["job_status"], said["generation"]) == ("FENCED", 1)
    await shared.done("Lease.rebuild_leases", sd_id=SD)
    await shared.done("Lease.delete", lease=LEASE)
    with pytest.raises(NoSuchLease):
        await shared.call("Lease.status", lease=LEASE)
    member = {"storagedomainID": SD, "path": str(shared.mount), "host_id": 1}
    assert await shared.call("StorageDomain.activate", **member) is True  # again
