"""Making volumes: what they are, what is refused, and what a crash leaves behind."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from processes import qemu_img
from protocol.errors import (
    AcquireLockFailure,
    BadParameter,
    BrokenVolumeChain,
    IllegalVolume,
    ImageDoesNotExistInSD,
    ImageRefused,
    MetadataOverflowError,
    ToolFailed,
    UnsupportedOperation,
    VolumeCreationError,
    VolumeDoesNotExist,
    VolumeExists,
    VolumeHasChild,
)
from storage import metadata_file, new_volume, volume, volume_lease, volume_mark
from storage.domain import Domain
from storage.qcow2 import parse
from storage.volume import Volume
from storage.volume_metadata import NO_PARENT, decode
from tests.storage.volumes import (
    BASE,
    IMG,
    MIB,
    MIDDLE,
    NOW,
    SD,
    TOP,
    files,
    make,
    new_domain,
    write_slot,
)

GOLDEN = Path(__file__).parent.parent / "vectors" / "volume_meta"


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """An unkind one: modes must not depend on it."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def sd(tmp_path: Path) -> Domain:
    return new_domain(tmp_path / "mount")


def voltype(sd: Domain, vol_id: str) -> str:
    return volume.read(sd, IMG, vol_id).metadata.voltype


async def test_a_raw_sparse_volume_is_its_size_and_no_blocks(sd: Domain) -> None:
    made = await make(sd, capacity=10 * MIB)
    found = os.stat(made.path)
    assert (found.st_size, found.st_blocks) == (10 * MIB, 0)
    assert (made.metadata.format, made.metadata.type) == ("RAW", "SPARSE")


async def test_a_raw_preallocated_volume_has_all_its_blocks(
    sd: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_volume, "STEP", 3 * MIB)
    made = await make(sd, capacity=10 * MIB, preallocated=True)
    found = os.stat(made.path)
    assert found.st_size == 10 * MIB
    assert found.st_blocks * 512 >= 10 * MIB
    assert made.metadata.type == "PREALLOCATED"


@pytest.mark.tools("qemu-img")
async def test_a_qcow2_volume_is_one_of_version_3_without_backing_file(sd: Domain) -> None:
    made = await make(sd, format="qcow2", capacity=10 * MIB)
    header = parse(Path(made.path).read_bytes())
    assert (header.version, header.virtual_size, header.backing_file) == (3, 10 * MIB, None)
    assert (made.metadata.format, made.metadata.type) == ("COW", "SPARSE")


@pytest.mark.tools("qemu-img")
@pytest.mark.parametrize("base", ["raw", "qcow2"])
async def test_a_volume_on_a_parent_names_it_in_its_own_folder(sd: Domain, base: str) -> None:
    await make(sd, BASE, format=base)
    made = await make(sd, MIDDLE, parent=BASE.upper())
    header = parse(Path(made.path).read_bytes())
    assert (header.backing_file, header.backing_format) == (BASE, base)
    assert (made.parent, made.metadata.sequence, made.metadata.capacity) == (BASE, 2, MIB)
    assert (voltype(sd, BASE), voltype(sd, MIDDLE)) == ("INTERNAL", "LEAF")
    top = await make(sd, TOP, parent=MIDDLE, capacity=2 * MIB)
    assert (voltype(sd, MIDDLE), top.metadata.sequence) == ("INTERNAL", 3)
    # What qemu-img makes of it by itself, as other programs would.
    subprocess.run(["qemu-img", "check", "-q", top.path], check=True)


async def test_metadata_of_a_new_volume_are_the_golden_text(sd: Domain) -> None:
    golden = (GOLDEN / "raw_sparse.v5.meta").read_bytes()
    inputs = decode(golden, "golden")
    text = Path((await make(sd, description=inputs.description)).place.meta).read_bytes()
    for ours, theirs in ((SD, inputs.domain), (f"CAP={MIB}", f"CAP={inputs.capacity}")):
        text = text.replace(ours.encode(), theirs.encode())
    assert text == golden


async def test_modes_do_not_depend_on_the_umask(sd: Domain) -> None:
    made = await make(sd)
    for path in (made.path, made.lease, made.place.meta):
        assert os.stat(path).st_mode & 0o7777 == 0o660, path
    assert os.stat(os.path.dirname(made.path)).st_mode & 0o7777 == 0o755
    assert files(sd) == {IMG, f"{IMG}/{BASE}", f"{IMG}/{BASE}.lease", f"{IMG}/{BASE}.meta"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_files_belong_to_the_owner_of_the_domain(sd: Domain) -> None:
    os.chown(sd.images, 36, 37)
    made = await make(sd)
    volume.update(sd, IMG, BASE, lambda old: replace(old, generation=1))
    for path in (os.path.dirname(made.path), made.path, made.lease, made.place.meta):
        assert (os.stat(path).st_uid, os.stat(path).st_gid) == (36, 37), path


@pytest.mark.parametrize(
    ("block_size", "wanted", "got"), [(512, 1, 512), (512, 1025, 1536), (4096, 4097, 8192)]
)
async def test_capacity_is_rounded_up_to_blocks(
    tmp_path: Path, block_size: int, wanted: int, got: int
) -> None:
    made = await make(new_domain(tmp_path, block_size=block_size), capacity=wanted)
    assert (made.metadata.capacity, os.stat(made.path).st_size) == (got, got)
    os.unlink(made.lease)  # pytest keeps folders, and this is large


async def test_the_lease_is_one_slot_in_full_and_prepared(sd: Domain) -> None:
    def prepare(path: str) -> None:
        assert os.stat(path).st_size == sd.alignment
        write_slot(path)

    made = await make(sd, prepare_lease=prepare)
    found = os.stat(made.lease)
    assert (found.st_size, found.st_blocks * 512 >= MIB) == (MIB, True)
    assert Path(made.lease).read_bytes()[:5] == b"slot\0"


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ({"capacity": 0}, "capacity"),
        ({"capacity": -1}, "capacity"),
        ({"capacity": (64 << 40) + 1}, "capacity"),
        ({"capacity": None}, "capacity"),
        ({"format": "qcow2", "preallocated": True}, "preallocated"),
        ({"format": "raw", "parent": BASE}, "format"),
        ({"description": "a\nLEGALITY=LEGAL"}, "description"),
        ({"description": "\udcff"}, "description"),
        ({"disktype": "a\nb"}, "disktype"),
        ({"parent": "../x"}, "parent"),
        ({"vol_id": NO_PARENT}, "vol_id"),
    ],
    ids=str,
)
async def test_bad_wishes_are_refused_before_anything_is_made(
    sd: Domain, wanted: dict[str, Any], name: str
) -> None:
    with pytest.raises(BadParameter) as refused:
        await make(sd, **wanted)
    assert refused.value.name == name
    assert files(sd) == set()


async def test_a_description_too_long_in_bytes_is_refused_before_anything_is_made(
    sd: Domain,
) -> None:
    with pytest.raises(MetadataOverflowError):
        await make(sd, description="中" * 210)
    assert files(sd) == set()
    assert (await make(sd, description="d" * 300)).metadata.description == "d" * 210


async def test_a_volume_that_exists_is_not_touched(sd: Domain) -> None:
    made = await make(sd)
    Path(made.path).write_bytes(b"content")
    before = files(sd)
    with pytest.raises(VolumeExists):
        await make(sd)
    assert Path(made.path).read_bytes() == b"content"
    assert files(sd) == before


@pytest.mark.parametrize("name", [BASE, BASE + ".lease"])
async def test_files_without_metadata_that_no_crash_left_are_not_touched(
    sd: Domain, name: str
) -> None:
    folder = Path(sd.images, IMG)
    folder.mkdir()
    (folder / name).write_bytes(b"content")
    with pytest.raises(VolumeExists, match="without metadata"):
        await make(sd)
    assert (folder / name).read_bytes() == b"content"
    assert files(sd) == {IMG, f"{IMG}/{name}"}


async def test_such_files_are_seen_before_a_mark_makes_them_look_like_left_overs(
    sd: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(sd.images, IMG)
    folder.mkdir()
    (folder / BASE).write_bytes(b"content")
    with monkeypatch.context() as broken:
        broken.setattr(volume_mark, "_clear", failing(Died()))
        with pytest.raises(VolumeExists):
            await make(sd)
    assert files(sd) == {IMG, f"{IMG}/{BASE}"}


async def test_a_parent_must_exist_in_the_same_image(sd: Domain) -> None:
    with pytest.raises(ImageDoesNotExistInSD):
        await make(sd, MIDDLE, parent=BASE)
    await make(sd, BASE, img_id=IMG.replace("6", "5"))
    await make(sd, TOP)
    with pytest.raises(VolumeDoesNotExist):
        await make(sd, MIDDLE, parent=BASE)


@pytest.mark.tools("qemu-img")
async def test_a_parent_must_be_legal_without_child_and_not_larger(sd: Domain) -> None:
    await make(sd, BASE)
    volume.update(sd, IMG, BASE, lambda old: replace(old, legality="ILLEGAL"))
    with pytest.raises(IllegalVolume):
        await make(sd, MIDDLE, parent=BASE)
    volume.update(sd, IMG, BASE, lambda old: replace(old, legality="LEGAL"))
    with pytest.raises(BadParameter, match="less than that of its parent"):
        await make(sd, MIDDLE, parent=BASE, capacity=MIB - 512)
    await make(sd, MIDDLE, parent=BASE)
    with pytest.raises(VolumeHasChild) as refused:
        await make(sd, TOP, parent=BASE)
    assert refused.value.child == MIDDLE
    volume.update(sd, IMG, MIDDLE, lambda old: replace(old, voltype="WHAT"))
    with pytest.raises(UnsupportedOperation):
        await make(sd, TOP, parent=MIDDLE)


@pytest.mark.tools("qemu-img")
async def test_a_template_stays_shared_and_may_have_many_children(sd: Domain) -> None:
    await make(sd, BASE)
    volume.update(sd, IMG, BASE, lambda old: replace(old, voltype="SHARED"))
    await make(sd, MIDDLE, parent=BASE)
    await make(sd, TOP, parent=BASE)
    assert voltype(sd, BASE) == "SHARED"


@pytest.mark.tools("qemu-img")
async def test_a_parent_whose_own_image_lies_is_not_opened(sd: Domain, tmp_path: Path) -> None:
    base = await make(sd, BASE, format="qcow2")
    (tmp_path / "secret").write_bytes(bytes(512))
    argv = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "../../../../secret"]
    subprocess.run([*argv, base.path], check=True)
    with pytest.raises(ImageRefused):
        await make(sd, MIDDLE, parent=BASE)
    assert voltype(sd, BASE) == "LEAF"


@pytest.mark.tools("qemu-img")
async def test_a_parent_without_its_own_parent_is_a_broken_chain(sd: Domain) -> None:
    base = await make(sd, BASE)
    await make(sd, MIDDLE, parent=BASE)
    os.unlink(base.place.meta)
    with pytest.raises(BrokenVolumeChain):
        await make(sd, TOP, parent=MIDDLE)


# --- failures: nothing is left, the parent is as it was -----------------------------------------


class Died(BaseException):
    """Stands for the end of the process in the middle: nothing is cleaned up after it."""


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*args: object, **options: object) -> Any:
        raise error

    return fail


STEPS: dict[str, tuple[object, str]] = {
    "volume": (new_volume, "_make"),
    "lease": (volume_lease, "make"),
    "metadata": (volume_mark.Mark, "write"),
    "parent": (metadata_file.Held, "replace"),
    "publish": (volume_mark.Mark, "publish"),
}


@pytest.mark.tools("qemu-img")
@pytest.mark.parametrize("step", STEPS)
async def test_a_failure_at_any_step_leaves_nothing(
    sd: Domain, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await make(sd, BASE)
    before = files(sd)
    with monkeypatch.context() as broken:
        broken.setattr(*STEPS[step], failing(OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(VolumeCreationError, match="No space left"):
            await make(sd, MIDDLE, parent=BASE)
    assert files(sd) == before
    assert voltype(sd, BASE) == "LEAF"
    await make(sd, MIDDLE, parent=BASE)


async def test_a_failure_in_a_new_image_leaves_no_image(sd: Domain) -> None:
    with pytest.raises(VolumeCreationError):
        await make(sd, prepare_lease=failing(OSError(errno.EIO, "Input/output error")))
    assert files(sd) == set()
    with pytest.raises(KeyError):
        await make(sd, prepare_lease=failing(KeyError()))
    assert files(sd) == set()


@pytest.mark.tools("qemu-img")
async def test_a_failing_tool_is_named_and_leaves_nothing(
    sd: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu_img, "create", failing(ToolFailed("qemu-img", 1, "no")))
    with pytest.raises(ToolFailed):
        await make(sd, format="qcow2")
    assert files(sd) == set()


async def test_an_abort_while_space_is_taken_leaves_nothing(
    sd: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_volume, "STEP", MIB)
    allocate = os.posix_fallocate
    with trio.CancelScope() as scope:

        def first_step(fd: int, offset: int, size: int) -> None:
            trio.from_thread.run_sync(scope.cancel)
            allocate(fd, offset, size)

        monkeypatch.setattr(os, "posix_fallocate", first_step)
        await make(sd, capacity=1000 * MIB, preallocated=True)
    assert scope.cancelled_caught
    assert files(sd) == set()


def dying(stack: ExitStack, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Let the next create end at `step` as if its process had been killed there."""
    broken = stack.enter_context(monkeypatch.context())
    broken.setattr(*STEPS[step], failing(Died()))
    # What would clean up does not run in a process that is gone.
    broken.setattr(volume_mark, "_remove", lambda *paths: None)
    broken.setattr(os, "rmdir", lambda path: None)
    if step == "publish":
        replaced = metadata_file.Held.replace
        calls: list[object] = []

        def only_first(*args: Any) -> None:
            if not calls:
                calls.append(args)
                replaced(*args)

        broken.setattr(metadata_file.Held, "replace", only_first)


@pytest.mark.tools("qemu-img")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("again", ["same", "other"])
async def test_what_a_crash_left_does_not_block_the_next_call(
    sd: Domain, monkeypatch: pytest.MonkeyPatch, step: str, again: str
) -> None:
    await make(sd, BASE)
    with ExitStack() as stack:
        dying(stack, monkeypatch, step)
        with pytest.raises(Died):
            await make(sd, MIDDLE, parent=BASE)
    assert f"{IMG}/{MIDDLE}.creating" in files(sd)
    with pytest.raises(VolumeDoesNotExist):
        volume.read(sd, IMG, MIDDLE)
    assert [one.id for one in volume.volumes(sd)] == [BASE]
    assert voltype(sd, BASE) == ("INTERNAL" if step == "publish" else "LEAF")
    if again == "same":
        assert (await make(sd, MIDDLE, parent=BASE)).parent == BASE
        assert voltype(sd, BASE) == "INTERNAL"
    else:
        assert (await make(sd, MIDDLE, capacity=2 * MIB)).parent is None
        assert voltype(sd, BASE) == "LEAF"
    assert not [name for name in files(sd) if name.endswith((".creating", ".new"))]


MAKER = """
import sys, trio
from storage import domain
from tests.storage.volumes import make

def stop(path):
    print("ready", flush=True)
    sys.stdin.read()

trio.run(lambda: make(domain.load(sys.argv[1]), prepare_lease=stop))
"""


async def test_the_maker_keeps_its_volume_until_it_is_killed(sd: Domain) -> None:
    argv = [sys.executable, "-c", MAKER, sd.path]
    top, pipe = Path(__file__).parents[2], subprocess.PIPE
    with subprocess.Popen(argv, cwd=top, stdin=pipe, stdout=pipe) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == b"ready\n"
        with pytest.raises(AcquireLockFailure):
            await make(sd)
        assert volume.volumes(sd) == []
        maker.kill()
    assert f"{IMG}/{BASE}.creating" in files(sd)
    await make(sd)
    assert files(sd) == {IMG, f"{IMG}/{BASE}", f"{IMG}/{BASE}.lease", f"{IMG}/{BASE}.meta"}


@pytest.mark.tools("qemu-img")
async def test_a_parent_is_internal_before_its_child_exists(
    sd: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(sd, BASE)
    publish = volume_mark.Mark.publish
    seen: list[str] = []

    def watched(mark: volume_mark.Mark) -> None:
        seen.append(voltype(sd, BASE))
        publish(mark)

    monkeypatch.setattr(volume_mark.Mark, "publish", watched)
    await make(sd, MIDDLE, parent=BASE)
    assert seen == ["INTERNAL"]


async def test_a_volume_that_somebody_is_making_is_left_to_them(sd: Domain) -> None:
    os.mkdir(f"{sd.images}/{IMG}")
    mark = os.open(f"{sd.images}/{IMG}/{BASE}.creating", os.O_CREAT | os.O_RDWR)
    fcntl.flock(mark, fcntl.LOCK_EX)
    with pytest.raises(AcquireLockFailure):
        await make(sd)
    os.close(mark)
    await make(sd)


@pytest.mark.tools("qemu-img")
async def test_of_many_at_once_one_makes_the_volume(sd: Domain) -> None:
    await make(sd, BASE)
    ends: list[object] = []

    async def one(number: int) -> None:
        try:
            ends.append(await make(sd, MIDDLE, parent=BASE, capacity=MIB * number))
        except (AcquireLockFailure, VolumeExists, VolumeHasChild) as e:
            ends.append(e)

    async with trio.open_nursery() as nursery:
        for number in range(1, 7):
            nursery.start_soon(one, number)
    (made,) = [end for end in ends if isinstance(end, Volume)]
    assert volume.read(sd, IMG, MIDDLE) == made
    header = parse(Path(made.path).read_bytes())
    assert header.virtual_size == made.metadata.capacity
    assert voltype(sd, BASE) == "INTERNAL"


@pytest.mark.tools("qemu-img")
async def test_of_many_children_at_once_one_gets_the_parent(sd: Domain) -> None:
    await make(sd, BASE)
    ids = [MIDDLE[:-2] + f"{number:02}" for number in range(10, 16)]
    made: list[Volume] = []

    async def one(vol_id: str) -> None:
        with suppress(VolumeHasChild):
            made.append(await make(sd, vol_id, parent=BASE))

    async with trio.open_nursery() as nursery:
        for vol_id in ids:
            nursery.start_soon(one, vol_id)
    assert len(made) == 1
    assert [one.id for one in volume.volumes(sd)] == [BASE, made[0].id]
    assert len(files(sd)) == 7


def test_creation_is_recorded_with_the_time_it_was_told(sd: Domain) -> None:
    assert trio.run(make, sd).metadata.ctime == NOW
