"""Lease.rebuild_leases, cut off anywhere, over every kind of damage at once."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from leases import index, slot, verbs
from leases.embedded import EmbeddedStore
from leases.geometry import Geometry
from leases.index import EMPTY
from leases.volume import format_volume
from protocol.record import Expectation
from tests.leases.conftest import SD_ID
from tests.leases.damaged import FORMATTED, GARBAGE, MIB, NOW, Volume, create, usable


class Killed(BaseException):
    """Nobody handles it, as nobody handles SIGKILL."""


@pytest.fixture
async def ruin(tmp_path: Path) -> AsyncIterator[Volume]:
    """Every kind of damage in one volume of 40 slots, and a lease of each kind that is well."""
    Path(tmp_path, "ids").touch()
    store = EmbeddedStore(SD_ID, str(tmp_path / "xleases"), str(tmp_path / "ids"), Geometry())
    format_volume(store.volume, now=FORMATTED, leases=40)
    volume = Volume(store)
    for number in range(20):
        job = str(UUID(int=number))
        await create(store, job, job if number % 2 else None)
    volume.write(MIB + 70, b"u")
    volume.set_record(1, EMPTY)
    volume.set_record(2, EMPTY)
    volume.set_record(3, GARBAGE)
    volume.set_record(4, bytes(64))
    volume.set_record(6, index.record("another", 0))
    volume.set_leader(7, bytes(512))
    volume.set_leader(9, b"?" * 512)
    volume.set_record(10, index.record(str(UUID(int=0)), 0))
    volume.set_record(11, index.record(str(UUID(int=11)), 0, updating=True))
    for number in (12, 21, 30):
        volume.set_slot(number, slot.fresh(volume.geometry, SD_ID, str(UUID(int=5))))
    volume.set_record(12, GARBAGE)
    volume.set_record(30, GARBAGE)
    volume.set_record(35, GARBAGE)
    volume.set_record(50, GARBAGE)
    yield volume
    Path(store.path).unlink()  # pytest would keep it


async def test_killed_at_any_point_and_run_again_it_ends_as_if_it_had_not_been(
    ruin: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ruin.store
    ruined = tmp_path / "ruined"
    shutil.copyfile(store.path, ruined)
    done = await verbs.rebuild(store, now=NOW)
    undisturbed = ruin.whole()
    assert len(done.restored) == 4
    assert len(done.written) == 3
    assert len(done.cleared) == 5
    left = -1

    def reached(verb: str, step: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    monkeypatch.setattr("leases.rebuilding.reached", reached)
    for kill_at in range(1, 100):
        Path(store.path).unlink()
        shutil.copyfile(ruined, store.path)
        left = kill_at
        try:
            await verbs.rebuild(store, now=NOW)
        except Killed:
            left = -1
            await verbs.rebuild(store, now=NOW)
            assert ruin.whole() == undisturbed
        else:
            break
    else:
        raise AssertionError
    ruined.unlink()
    assert kill_at == 1 + (1 + 7 + 5 + 1)  # locked, slots, runs of records, metadata
    assert ruin.whole() == undisturbed


async def test_every_lease_of_a_rebuilt_volume_can_be_used(ruin: Volume) -> None:
    store = ruin.store
    await verbs.rebuild(store, now=NOW)
    listed = await verbs.leases(store)
    names = [one.lease_id for one in listed]
    assert len(set(names)) == len(names)
    assert sum(one.updating for one in listed) == 1
    for one in listed:
        if one.updating:
            continue
        found = (await verbs.status(store, one.lease_id)).metadata
        if found:
            expected = Expectation(one.lease_id, 0)
            await verbs.fence(store, one.lease_id, expected, now=2, hardware_id="h")
        await usable(store, one.lease_id)
    for number in range(40):  # a delete above has swept the one that was updating
        await create(store, f"new-{number}")
    assert len(await verbs.leases(store)) == 40
