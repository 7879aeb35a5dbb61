"""A specification becomes the copy that it asks for."""

import os
import signal
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from endpoints.volume import create_volume
from host import copying
from host.copying import messages, named_domains, opened, request
from host.folder import Spec
from jobs.job import Progress, Status
from protocol.errors import BadParameter, StorageDomainDoesNotExist
from storage import volume
from storage.domain import Domain
from storage.volume_request import Request
from tests.host.jobs import SIZE, SLOW, Place, code, ended, moving
from tests.host.test_agent import Worker

IMG = "66666666-7777-4888-8999-aaaaaaaaaaaa"
VOL = "11111111-0000-4000-8000-00000000abcd"


def with_end(spec: Spec, **ends: dict[str, Any]) -> Spec:
    return msgspec.structs.replace(spec, **ends)


async def to_volume(place: Place, **options: Any) -> Spec:
    """A copy to a new volume in the domain."""
    domain = place.copies.domain
    await create_volume(domain, IMG, VOL, Request(format="raw", capacity=SIZE, now=1))
    target = {"endpoint_type": "div", "sd_id": domain.id, "img_id": IMG, "vol_id": VOL}
    return with_end(await place.spec(**options), destination={**target, "generation": 0})


async def test_the_domains_of_both_ends_are_named_but_not_that_of_a_lease_of_a_source(
    place: Place,
) -> None:
    spec = await place.spec()
    other = {"sd_id": VOL, "lease_id": "x"}
    source, destination = messages(with_end(spec, source={**spec.source, "lease": other}))
    assert named_domains(source, destination) == {place.copies.domain.id}
    volume = {"endpoint_type": "div", "sd_id": IMG, "img_id": IMG, "vol_id": VOL}
    source, destination = messages(with_end(spec, source=volume))
    assert named_domains(source, destination) == {place.copies.domain.id, IMG}


async def test_what_the_specification_says_is_asked_for(place: Place) -> None:
    options = {"limit": 5, "stall_time": 7.0, "verify": True, "copy_bitmaps": True}
    spec = await place.spec(allow=["/a"], create_under=["/b"], **options)
    wanted = request(spec, await opened(spec))
    assert wanted.job_id == str(spec.job_id)
    assert (wanted.policy.allow, wanted.create_under) == (("/a",), ("/b",))
    assert (wanted.limit, wanted.stall_time) == (5, 7.0)
    assert wanted.verify
    assert wanted.copy_bitmaps


async def test_a_domain_that_nobody_named_is_unknown(place: Place) -> None:
    spec = await to_volume(place)
    with pytest.raises(StorageDomainDoesNotExist):
        request(spec, {})


async def test_messages_are_checked_again(place: Place) -> None:
    spec = await place.spec()
    with pytest.raises(BadParameter):
        messages(with_end(spec, destination={**spec.destination, "format": "vmdk"}))


@pytest.mark.tools("qemu-img")
async def test_a_copy_to_a_volume_ends_as_the_volume_says(place: Place) -> None:
    async with place.agent() as agent:
        job = await agent.submit(await to_volume(place))
        await ended(job, Status.DONE)
    found = volume.read(place.copies.domain, IMG, VOL)
    assert (found.metadata.legality, found.metadata.generation) == ("LEGAL", 1)


@pytest.mark.tools("qemu-img")
async def test_a_volume_whose_worker_was_killed_is_not_used(place: Place) -> None:
    async with place.agent() as agent:
        job = await agent.submit(await to_volume(place, limit=SLOW))
        await moving(job)
        os.kill(Worker(place, job.id).pid, signal.SIGKILL)
        await ended(job, Status.FAILED)
        assert code(job) == 4121
        assert "its volume is ILLEGAL, generation 0" in str(job.error)


@pytest.mark.tools("qemu-img")
async def test_a_copy_waits_for_the_membership_of_its_host(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[object] = []

    async def joined(domain: Domain, seconds: float, waiting: Callable[[], None]) -> None:
        log.append((domain.id, seconds))
        waiting()

    monkeypatch.setattr(copying, "until_joined", joined)
    await copying.copied(await place.spec(), lambda progress: None)
    assert log == []
    await copying.copied(await place.spec(join_time=5.0), log.append)
    sd_id = place.copies.domain.id
    assert log[0] == (sd_id, 5.0)
    assert isinstance(log[1], Progress)
    assert log[1].stage == f"waiting until this host has joined storage domain {sd_id}"
    assert len(log) > 2  # then it copies
