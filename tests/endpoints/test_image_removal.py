"""An image is removed whole, or what is left is removed by the next call; never under a user."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from endpoints import image_removal
from endpoints.domain import create_domain, open_store
from endpoints.image_removal import remove_image
from endpoints.locks import Lock, Mode, held
from endpoints.tracked_volume import TrackedVolume
from endpoints.volume import create_volume, leased_volume
from leases.geometry import Geometry
from leases.hold import hold
from leases.sanlock_store import SanlockStore
from leases.store import Store
from protocol.errors import (
    AcquireLockFailure,
    BadParameter,
    ImageRefused,
    VolumeDoesNotExist,
    VolumeHasChild,
)
from storage import volume
from storage.domain import Domain
from storage.volume_mark import marked
from storage.volume_place import Place
from storage.volume_request import Request
from tests.cli.run import ROOT
from tests.sanlock_hosts import SD_ID, Hosts

IMG = "66666666-7777-4888-8999-aaaaaaaaaaaa"
OTHER = "66666666-7777-4888-8999-bbbbbbbbbbbb"
BASE = "11111111-0000-4000-8000-00000000aaaa"
TOP = "11111111-0000-4000-8000-00000000bbbb"
RAW = Request(format="raw", capacity=1 << 20, now=1)
STEPS = ("unpublished", "moved")


@pytest.fixture
async def domain(tmp_path: Path) -> Domain:
    """With an image of two volumes, and another one."""
    made = await create_domain(str(tmp_path), leases=1)
    await create_volume(made, IMG, BASE, RAW)
    await create_volume(made, IMG, TOP, RAW)
    await create_volume(made, OTHER, TOP, RAW)
    return made


@pytest.fixture
async def store(domain: Domain) -> Store:
    return await open_store(domain)


def left(domain: Domain) -> list[str]:
    """Everything in the folder of images."""
    return sorted(os.listdir(domain.images))


def volumes(domain: Domain) -> list[str]:
    return [one.id for one in volume.of_image(domain, IMG)] if IMG in left(domain) else []


async def test_an_image_goes_with_all_of_its_volumes_and_no_other(
    domain: Domain, store: Store
) -> None:
    await remove_image(domain, store, IMG)
    assert left(domain) == [OTHER]
    assert [one.id for one in volume.of_image(domain, OTHER)] == [TOP]


async def test_an_image_that_is_not_there_is_removed_already(domain: Domain, store: Store) -> None:
    await remove_image(domain, store, BASE)
    await remove_image(domain, store, IMG)
    await remove_image(domain, store, IMG)
    assert left(domain) == [OTHER]


async def test_the_ids_of_a_removed_image_can_be_used_again(domain: Domain, store: Store) -> None:
    await remove_image(domain, store, IMG)
    await create_volume(domain, IMG, BASE, RAW)
    assert volumes(domain) == [BASE]


async def test_what_is_no_image_is_not_touched(domain: Domain, store: Store) -> None:
    for name in ("..", "x", f"../images/{IMG}", ""):
        with pytest.raises(BadParameter):
            await remove_image(domain, store, name)
    os.rename(Path(domain.images, IMG), Path(domain.path, IMG))
    os.symlink(Path(domain.path, IMG), Path(domain.images, IMG))
    with pytest.raises(ImageRefused):
        await remove_image(domain, store, IMG)
    os.unlink(Path(domain.images, IMG))
    os.symlink("/tmp", Path(domain.images, IMG))
    with pytest.raises(ImageRefused):
        await remove_image(domain, store, IMG)
    assert Path("/tmp").is_dir()


# --- who uses it --------------------------------------------------------------------------------


@pytest.mark.parametrize("vol_id", [BASE, TOP])
async def test_a_held_lease_of_any_volume_refuses_it_and_nothing_changed(
    domain: Domain, store: Store, vol_id: str
) -> None:
    async with hold(store, await leased_volume(domain, volume.read(domain, IMG, vol_id))):
        for force in (False, True):
            with pytest.raises(AcquireLockFailure):
                await remove_image(domain, store, IMG, force=force)
    assert volumes(domain) == [BASE, TOP]
    await remove_image(domain, store, IMG)


async def test_a_reader_of_this_host_refuses_it(domain: Domain, store: Store) -> None:
    lock = Lock("image", f"{domain.id}/{IMG}", Mode.SHARED)
    async with held([lock]):
        with trio.fail_after(20), pytest.raises(AcquireLockFailure, match="this host"):
            await remove_image(domain, store, IMG)
    assert volumes(domain) == [BASE, TOP]


async def test_a_volume_that_is_being_made_refuses_it(domain: Domain, store: Store) -> None:
    place = Place(f"{domain.images}/{IMG}", IMG, OTHER)
    with marked(domain, place) as mark:
        with pytest.raises(AcquireLockFailure):
            await remove_image(domain, store, IMG)
        assert volumes(domain) == [BASE, TOP]
        mark.write(volume.read(domain, IMG, BASE).metadata)
        mark.publish()


async def test_what_a_crash_left_of_a_volume_does_not_refuse_it(
    domain: Domain, store: Store
) -> None:
    Path(domain.images, IMG, f"{OTHER}.creating").touch()
    await remove_image(domain, store, IMG)
    assert left(domain) == [OTHER]


async def test_a_job_that_waits_for_the_lease_finds_no_volume(
    domain: Domain, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has looked, and comes to hold the lease after the volume is gone, before its files are."""
    looked, removed = trio.Event(), trio.Event()
    original = leased_volume

    async def late(domain: Domain, found: volume.Volume) -> object:
        lease = await original(domain, found)
        looked.set()
        await removed.wait()
        return lease

    async def job() -> None:
        monkeypatch.setattr("endpoints.tracked_volume.leased_volume", late)
        tracked = TrackedVolume(store, domain, (IMG, BASE), 0)
        with pytest.raises(VolumeDoesNotExist):
            async with tracked.taken_up():
                raise AssertionError("it writes to what is being removed")

    class StopHere(Exception):
        pass

    def stop(verb: str, step: str) -> None:
        raise StopHere

    monkeypatch.setattr(image_removal, "reached", stop)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(job)
        await looked.wait()
        with pytest.raises(StopHere):
            await remove_image(domain, store, IMG)
        assert volumes(domain) == []
        removed.set()


async def test_a_template_that_other_images_are_on_is_kept_unless_forced(
    domain: Domain, store: Store
) -> None:
    volume.update(domain, IMG, BASE, lambda old: replace(old, voltype="SHARED"))
    for suffix in ("", ".meta", ".lease"):
        os.link(f"{domain.images}/{IMG}/{BASE}{suffix}", f"{domain.images}/{OTHER}/{BASE}{suffix}")
    with pytest.raises(VolumeHasChild, match=OTHER):
        await remove_image(domain, store, IMG)
    assert volumes(domain) == [BASE, TOP]
    # The image that is on it goes, and leaves it as it is: though a job holds it.
    async with hold(store, await leased_volume(domain, volume.read(domain, IMG, BASE))):
        await remove_image(domain, store, OTHER)
    assert volumes(domain) == [BASE, TOP]
    await remove_image(domain, store, IMG)
    assert left(domain) == []


async def test_a_template_with_users_goes_when_that_is_forced(domain: Domain, store: Store) -> None:
    volume.update(domain, IMG, BASE, lambda old: replace(old, voltype="SHARED"))
    os.link(f"{domain.images}/{IMG}/{BASE}.meta", f"{domain.images}/{OTHER}/{BASE}.meta")
    await remove_image(domain, store, IMG, force=True)
    assert left(domain) == [OTHER]


async def test_damaged_metadata_and_a_missing_lease_refuse_nothing(
    domain: Domain, store: Store
) -> None:
    Path(domain.images, IMG, f"{BASE}.meta").write_text("NONE=####\n")
    Path(domain.images, IMG, f"{TOP}.lease").unlink()
    await remove_image(domain, store, IMG)
    assert left(domain) == [OTHER]


async def test_a_damaged_volume_is_not_removed_while_its_lease_is_held(
    domain: Domain, store: Store
) -> None:
    async with hold(store, await leased_volume(domain, volume.read(domain, IMG, BASE))):
        Path(domain.images, IMG, f"{BASE}.meta").write_text("NONE=####\n")
        with pytest.raises(AcquireLockFailure):
            await remove_image(domain, store, IMG)
    assert Path(domain.images, IMG, BASE).exists()


# --- on a sanlock domain ------------------------------------------------------------------------

HOLDING = """
import sys, trio
from leases.geometry import Geometry
from leases.hold import hold
from leases.lease import Lease
from leases.sanlock_store import SanlockStore

async def main(sd_id, xleases, ids, vol_id, path):
    store = SanlockStore(sd_id, xleases, ids, Geometry.of(512))
    async with hold(store, Lease(sd_id, vol_id, path, 0)):
        print("held", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)

trio.run(main, *sys.argv[1:])
"""


@contextmanager
def held_by_b(hosts: Hosts, domain: Domain, path: str) -> Iterator[None]:
    names = [SD_ID, f"{domain.path}/dom_md/xleases", str(hosts.ids), BASE, path]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, *names],
        env={**os.environ, **hosts.b.environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.mark.tools("sanlock")
async def test_a_volume_that_another_host_writes_is_not_removed(
    tmp_path: Path, hosts: Hosts
) -> None:
    domain = await create_domain(str(tmp_path), sd_id=SD_ID, leases=1)
    for vol_id in (BASE, TOP):
        await create_volume(domain, IMG, vol_id, RAW)
    xleases = f"{domain.path}/dom_md/xleases"
    store = SanlockStore(SD_ID, xleases, str(hosts.ids), Geometry.of(512))
    with held_by_b(hosts, domain, f"{domain.images}/{IMG}/{BASE}.lease"):
        with pytest.raises(AcquireLockFailure):
            await remove_image(domain, store, IMG)
        assert volumes(domain) == [BASE, TOP]
    await remove_image(domain, store, IMG)
    assert left(domain) == []


# --- killed -------------------------------------------------------------------------------------

REMOVING = """
import sys, trio
from endpoints.domain import open_store
from endpoints.image_removal import remove_image
from storage.domain import load

async def main(path, img_id):
    domain = load(path)
    await remove_image(domain, await open_store(domain), img_id)

trio.run(main, *sys.argv[1:])
"""


async def removed(domain: Domain, die_at: str) -> int:
    """The exit status of a process that removes the image."""
    done = await trio.run_process(
        [sys.executable, "-c", REMOVING, domain.path, IMG],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LEASEHOLD_DIE_AT": die_at},
        check=False,
    )
    return done.returncode


@pytest.mark.parametrize("step", STEPS)
async def test_a_removal_that_was_killed_is_ended_by_the_next_one(
    domain: Domain, step: str
) -> None:
    assert await removed(domain, f"{image_removal.VERB}:{step}") == -signal.SIGKILL
    assert volumes(domain) == []
    assert len(left(domain)) == 2
    assert await removed(domain, "") == 0
    assert left(domain) == [OTHER]


def test_these_are_all_steps() -> None:
    source = Path(image_removal.__file__).read_text()
    assert source.count("reached(VERB") == len(STEPS)


async def test_what_cannot_be_unlinked_is_removed_by_the_next_call(
    domain: Domain, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: str) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("storage.image_removal.shutil.rmtree", fails)
        with pytest.raises(OSError, match="Input/output"):
            await remove_image(domain, store, IMG)
    assert volumes(domain) == []
    await remove_image(domain, store, IMG)
    assert left(domain) == [OTHER]
