"""An image is removed whole, or what is left is removed by the next call; never under a user."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from endpoints import image_removal
from endpoints.domain import create_domain, open_store
from endpoints.image_removal import remove_image
from endpoints.locks import Lock, Mode, held
from endpoints.tracked_volume import TrackedVolume
from endpoints.volume import create_volume, lease_writer, leased_volume
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
from storage import image_removal as steps
from storage import new_volume, volume
from storage.domain import Domain
from storage.volume_mark import Mark, marked
from storage.volume_place import Place
from storage.volume_request import Request
from tests.cli.run import ROOT
from tests.sanlock_hosts import SD_ID, Hosts

IMG = "66666666-7777-4888-8999-aaaaaaaaaaaa"
OTHER = "66666666-7777-4888-8999-bbbbbbbbbbbb"
BASE = "11111111-0000-4000-8000-00000000aaaa"
TOP = "11111111-0000-4000-8000-00000000bbbb"
NEW = "11111111-0000-4000-8000-00000000cccc"
NEWER = "11111111-0000-4000-8000-00000000dddd"
RAW = Request(format="raw", capacity=1 << 20, now=1)
STEPS = ("unpublished", "moved", "settled")


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


# --- who makes a volume of it meanwhile ---------------------------------------------------------


def make(domain: Domain, vol_id: str = NEW) -> None:
    new_volume.create(domain, IMG, vol_id, RAW, prepare_lease=lease_writer(domain, vol_id))


@pytest.fixture
def at(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Callable[[Domain], object]], None]:
    """Do something once at a moment of the next removal: "leased", "moving", or one of STEPS."""
    todo: dict[str, Callable[[Domain], object]] = {}

    def reached(verb: str, step: str) -> None:
        if step in todo:
            todo.pop(step)(domain)

    def unpublish(image: steps.Doomed) -> None:
        reached("", "leased")
        return real_unpublish(image)

    def rename(old: str, new: str) -> None:
        reached("", "moving")
        real_rename(old, new)

    real_unpublish, real_rename = steps.unpublish, os.rename
    monkeypatch.setattr(image_removal, "reached", reached)
    monkeypatch.setattr(steps, "unpublish", unpublish)
    monkeypatch.setattr("storage.image_removal.os.rename", rename)
    return todo.__setitem__


@pytest.mark.parametrize(
    ("moment", "stays"),
    [
        ("leased", [BASE, TOP, NEW]),  # nothing changed
        ("unpublished", [NEW]),
        ("moving", [NEW]),
        ("moved", [NEW]),  # of an image that was made anew
        ("settled", [NEW]),
    ],
)
async def test_a_volume_that_is_made_while_the_image_is_removed_is_not_lost(
    domain: Domain,
    store: Store,
    at: Callable[[str, Callable[[Domain], object]], None],
    moment: str,
    stays: list[str],
) -> None:
    at(moment, make)
    if moment in ("moved", "settled"):
        await remove_image(domain, store, IMG)
    else:
        with pytest.raises(AcquireLockFailure, match=f"volume {NEW} was just made"):
            await remove_image(domain, store, IMG)
    assert volumes(domain) == stays
    async with hold(store, await leased_volume(domain, volume.read(domain, IMG, NEW))):
        pass
    await remove_image(domain, store, IMG)
    assert left(domain) == [OTHER]


async def test_an_image_that_another_host_brings_back_is_not_told_as_removed(
    domain: Domain, store: Store, at: Callable[[str, Callable[[Domain], object]], None]
) -> None:
    def bring_back(domain: Domain) -> None:
        [away] = Path(domain.images).glob(f".{IMG}.moved-*")
        away.rename(Path(domain.images, IMG))

    at("moved", lambda domain: at("moving", bring_back))
    with pytest.raises(AcquireLockFailure, match="another host removes it"):
        await remove_image(domain, store, IMG)
    await remove_image(domain, store, IMG)
    assert left(domain) == [OTHER]


@pytest.mark.parametrize("moment", ["leased", "unpublished", "moving"])
async def test_a_volume_that_is_begun_while_the_image_is_removed_is_made(
    domain: Domain,
    store: Store,
    at: Callable[[str, Callable[[Domain], object]], None],
    moment: str,
) -> None:
    metadata = volume.read(domain, IMG, BASE).metadata
    place = Place(f"{domain.images}/{IMG}", IMG, NEW)
    with ExitStack() as stack:
        marks: list[Mark] = []
        at(moment, lambda domain: marks.append(stack.enter_context(marked(domain, place))))
        with pytest.raises(AcquireLockFailure, match=r"creating is held"):
            await remove_image(domain, store, IMG)
        [mark] = marks
        Path(place.path).touch()
        mark.write(metadata)
        mark.publish()
    assert NEW in volumes(domain)


async def test_a_volume_comes_back_into_an_image_that_was_made_anew(
    domain: Domain,
    store: Store,
    at: Callable[[str, Callable[[Domain], object]], None],
) -> None:
    at("moving", make)
    at("moved", lambda domain: make(domain, NEWER))
    with pytest.raises(AcquireLockFailure):
        await remove_image(domain, store, IMG)
    assert volumes(domain) == [NEW, NEWER]
    for vol_id in (NEW, NEWER):
        async with hold(store, await leased_volume(domain, volume.read(domain, IMG, vol_id))):
            pass
    await remove_image(domain, store, IMG)
    assert left(domain) == [OTHER]


async def test_of_two_volumes_of_one_id_none_is_removed_unseen(
    domain: Domain,
    store: Store,
    at: Callable[[str, Callable[[Domain], object]], None],
) -> None:
    at("moving", make)
    at("moved", make)
    for _ in range(2):  # one that was made anew, then the one that has waited for its place
        with pytest.raises(AcquireLockFailure):
            await remove_image(domain, store, IMG)
        assert volumes(domain) == [NEW]
    await remove_image(domain, store, IMG)
    assert left(domain) == [OTHER]


async def test_a_volume_that_was_moved_before_a_crash_comes_back(
    domain: Domain, store: Store
) -> None:
    assert await removed(domain, f"{image_removal.VERB}:moved") == -signal.SIGKILL
    place = Path(domain.images, IMG)
    [away] = Path(domain.images).glob(f".{IMG}.*")
    away.rename(place)
    make(domain)
    place.rename(away)
    with pytest.raises(AcquireLockFailure):
        await remove_image(domain, store, IMG)
    assert volumes(domain) == [NEW]


async def test_a_full_disk_keeps_no_image_from_being_removed(
    domain: Domain, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**options: object) -> tuple[int, str]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("storage.image_removal.tempfile.mkstemp", full)
    await remove_image(domain, store, IMG)
    assert left(domain) == [OTHER]


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
