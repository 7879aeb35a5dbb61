"""What became of a job whose worker died is what storage says, and nothing else."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import trio

from endpoints.volume import create_volume, leased_volume
from host import aftermath
from host.folder import Ending, Spec
from jobs.status import Status
from leases import verbs
from leases.hold import hold
from protocol.record import JobRecord, JobStatus
from storage import volume
from storage.volume_metadata import VolumeMetadata
from storage.volume_request import Request
from tests.faults.copies import HARDWARE_ID
from tests.host.jobs import Place

IMG = "66666666-7777-4888-8999-aaaaaaaaaaaa"
VOL = "11111111-0000-4000-8000-00000000abcd"


async def written(place: Place, spec: Spec, **changed: Any) -> None:
    """Let the record of the lease be another one."""
    lease = await verbs.info(place.copies.store, str(spec.job_id))
    async with hold(place.copies.store, lease) as grant:
        record = await grant.read()
        assert record is not None
        await grant.write(JobRecord({**record.keys, **changed}))


def said(ending: Ending) -> str:
    assert ending.status is Status.FAILED
    assert ending.error is not None
    assert ending.error["code"] == 4121
    return str(ending.error["message"])


async def test_succeeded_with_the_next_generation_is_done(place: Place) -> None:
    spec = await place.spec()
    await written(place, spec, job_status="SUCCEEDED", generation=1)
    assert (await aftermath.told(spec)).status is Status.DONE


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "its lease says PENDING"),
        ({"job_status": "FAILED"}, "its lease says FAILED"),
        ({"job_status": "FENCED", "generation": 1}, "its lease says FENCED"),
        ({"job_status": "SUCCEEDED", "generation": 0}, "its lease says SUCCEEDED"),
        ({"job_status": "SUCCEEDED", "generation": 2}, "its lease says SUCCEEDED"),
        ({"job_status": "SUCCEEDED", "generation": 1, "job_id": str(uuid4())}, "SUCCEEDED"),
    ],
)
async def test_anything_else_failed_and_says_what(
    place: Place, keys: dict[str, Any], text: str
) -> None:
    spec = await place.spec()
    await written(place, spec, **keys)
    assert text in said(await aftermath.told(spec))


async def test_a_lease_that_is_gone_is_not_waited_for(place: Place) -> None:
    spec = await place.spec()
    await verbs.delete(place.copies.store, str(spec.job_id))
    with trio.fail_after(10):
        assert "unknown" in said(await aftermath.told(spec))


async def test_a_lease_that_the_last_tool_still_holds_is_waited_for(
    place: Place, nursery: trio.Nursery
) -> None:
    spec = await place.spec()
    lease = await verbs.info(place.copies.store, str(spec.job_id))
    got: list[Ending] = []

    async def judge() -> None:
        got.append(await aftermath.told(spec))

    async with hold(place.copies.store, lease) as grant:
        nursery.start_soon(judge)
        await trio.sleep(0.2)
        assert got == []
        record = await grant.read()
        assert record is not None
        ended = record.ended(JobStatus.SUCCEEDED, now=1, hardware_id=HARDWARE_ID)
        await grant.write(ended)
    with trio.fail_after(10):
        while not got:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert got[0].status is Status.DONE


async def test_storage_that_comes_back_is_asked_again(place: Place, nursery: trio.Nursery) -> None:
    spec = await place.spec()
    await written(place, spec, job_status="SUCCEEDED", generation=1)
    there = Path(place.copies.domain.path)
    away = there.with_name("away")
    there.rename(away)
    got: list[Ending] = []

    async def judge() -> None:
        got.append(await aftermath.told(spec))

    nursery.start_soon(judge)
    await trio.sleep(0.2)
    assert got == []
    away.rename(there)
    with trio.fail_after(10):
        while not got:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert got[0].status is Status.DONE


async def test_storage_that_does_not_come_back_leaves_it_unknown(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aftermath, "ANSWER_TIME", 0.3)
    spec = await place.spec()
    shutil.rmtree(place.copies.domain.path)
    assert "unknown" in said(await aftermath.told(spec))


async def test_a_look_that_hangs_is_left_behind(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(*arguments: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(aftermath, "opened", hangs)
    monkeypatch.setattr(aftermath, "ANSWER_TIME", 0.1)
    with trio.fail_after(10):
        assert "does not answer" in said(await aftermath.told(await place.spec()))


@pytest.mark.parametrize(
    ("legality", "generation", "expected", "done"),
    [
        ("LEGAL", 1, 0, True),
        ("LEGAL", 0, 999, True),  # it wraps
        ("ILLEGAL", 0, 0, False),
        ("LEGAL", 0, 0, False),
        ("ILLEGAL", 1, 0, False),
        ("LEGAL", 3, 0, False),
        ("LEGAL", 1, None, False),
    ],
)
async def test_a_volume_is_done_when_it_is_legal_with_the_next_generation(
    place: Place, legality: str, generation: int, expected: int | None, done: bool
) -> None:
    spec = await of_a_volume(place, expected)

    def changed(metadata: VolumeMetadata) -> VolumeMetadata:
        return replace(metadata, legality=legality, generation=generation)

    volume.update(place.copies.domain, IMG, VOL, changed)
    ending = await aftermath.told(spec)
    assert ending.status is (Status.DONE if done else Status.FAILED)
    if not done:
        assert f"{legality}, generation {generation}" in said(ending)


async def test_a_volume_is_not_judged_while_its_lease_is_held(
    place: Place, nursery: trio.Nursery
) -> None:
    """By a tool of the dead worker: what that writes is still to come."""
    spec = await of_a_volume(place, 0)
    domain = place.copies.domain
    got: list[Ending] = []

    async def judge() -> None:
        got.append(await aftermath.told(spec))

    lease = await leased_volume(domain, volume.read(domain, IMG, VOL))
    async with hold(place.copies.store, lease):
        nursery.start_soon(judge)
        await trio.sleep(0.2)
        assert got == []
        volume.update(domain, IMG, VOL, lambda found: replace(found, generation=1))
    with trio.fail_after(10):
        while not got:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert got[0].status is Status.DONE


async def test_what_was_written_until_the_lease_was_free_counts(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = await of_a_volume(place, 0)

    async def given_back(*arguments: object) -> list[int]:
        volume.update(place.copies.domain, IMG, VOL, lambda found: replace(found, generation=1))
        return []

    monkeypatch.setattr(aftermath, "owners", given_back)
    assert (await aftermath.told(spec)).status is Status.DONE


async def of_a_volume(place: Place, generation: int | None) -> Spec:
    domain = place.copies.domain
    await create_volume(domain, IMG, VOL, Request(format="raw", capacity=1 << 20, now=1))
    target: dict[str, Any] = {
        "endpoint_type": "div",
        "sd_id": domain.id,
        "img_id": IMG,
        "vol_id": VOL,
    }
    if generation is not None:
        target["generation"] = generation
    return msgspec.structs.replace(await place.spec(), destination=target)
