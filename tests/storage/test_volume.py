"""Reading, finding and changing volumes, and names that would lead elsewhere."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.errors import (
    AcquireLockFailure,
    BadParameter,
    Error,
    IllegalVolume,
    ImageDoesNotExistInSD,
    ImageRefused,
    InvalidVolumeMetadata,
    MetadataOverflowError,
    UnsupportedOperation,
    VolumeDoesNotExist,
)
from storage import metadata_file, volume, volume_lease
from storage.domain import Domain
from storage.volume_metadata import READ_LIMIT, VolumeMetadata, decode, encode
from tests.storage.volumes import (
    BASE,
    IMG,
    MIB,
    MIDDLE,
    TOP,
    files,
    make,
    new_domain,
    nothing,
    write_slot,
)

OTHER_IMG = IMG.replace("6", "5")


@pytest.fixture
def sd(tmp_path: Path) -> Domain:
    return new_domain(tmp_path / "mount")


def next_generation(metadata: VolumeMetadata) -> VolumeMetadata:
    return replace(metadata, generation=(metadata.generation + 1) % 1000)


async def test_a_volume_is_read_as_it_was_made(sd: Domain) -> None:
    made = await make(sd, description="Grüße")
    found = volume.read(sd, IMG.upper(), BASE.upper())
    assert found == made
    assert (found.id, found.img_id, found.sd_id, found.parent) == (BASE, IMG, sd.id, None)
    assert found.path == f"{sd.images}/{IMG}/{BASE}"
    assert (found.format, found.metadata.description) == ("raw", "Grüße")


async def test_what_does_not_exist_is_named(sd: Domain) -> None:
    with pytest.raises(ImageDoesNotExistInSD) as no_image:
        volume.read(sd, IMG, BASE)
    made = await make(sd)
    with pytest.raises(VolumeDoesNotExist) as no_volume:
        volume.read(sd, IMG, TOP)
    os.unlink(made.path)
    with pytest.raises(VolumeDoesNotExist):
        volume.read(sd, IMG, BASE)
    assert (no_image.value.code, no_volume.value.code) == (254, 201)


@pytest.mark.parametrize("bad", ["", ".", "..", "../../x", "/etc", BASE + "\n", BASE[:-1], "\0"])
async def test_no_path_is_built_from_anything_but_uuids(sd: Domain, bad: str) -> None:
    await make(sd)
    for img_id, vol_id in ((bad, BASE), (IMG, bad)):
        with pytest.raises(BadParameter):
            volume.read(sd, img_id, vol_id)
        with pytest.raises(BadParameter):
            volume.update(sd, img_id, vol_id, next_generation)
        with pytest.raises(BadParameter):
            await make(sd, vol_id, img_id=img_id)
    with pytest.raises(BadParameter):
        volume.find(sd, bad)


async def test_an_image_that_is_a_link_out_of_the_domain_is_refused(
    sd: Domain, tmp_path: Path
) -> None:
    outside = new_domain(tmp_path / "outside")
    await make(outside)
    os.symlink(f"{outside.images}/{IMG}", f"{sd.images}/{IMG}")
    before = files(outside)
    with pytest.raises(ImageRefused, match="out of storage domain"):
        volume.read(sd, IMG, BASE)
    with pytest.raises(ImageRefused):
        volume.find(sd, BASE)
    with pytest.raises(ImageRefused):
        volume.update(sd, IMG, BASE, next_generation)
    with pytest.raises(ImageRefused):
        await make(sd, MIDDLE)
    with pytest.raises(ImageRefused):
        await make(sd, MIDDLE, parent=BASE)
    assert files(outside) == before


async def test_a_volume_that_is_a_link_out_of_the_domain_is_refused(
    sd: Domain, tmp_path: Path
) -> None:
    made = await make(sd)
    (tmp_path / "secret").write_text("secret")
    os.unlink(made.path)
    os.symlink(tmp_path / "secret", made.path)
    with pytest.raises(ImageRefused, match="out of storage domain"):
        volume.read(sd, IMG, BASE)


async def test_an_image_may_be_a_link_within_the_domain(sd: Domain) -> None:
    await make(sd)
    os.symlink(IMG, f"{sd.images}/{OTHER_IMG}")
    assert volume.read(sd, OTHER_IMG, BASE).path == f"{sd.images}/{IMG}/{BASE}"


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "huge", "garbage", "empty"])
async def test_metadata_that_are_no_small_text_file_are_refused(sd: Domain, kind: str) -> None:
    meta = Path((await make(sd)).place.meta)
    text = meta.read_bytes()
    meta.unlink()
    match kind:
        case "link":
            meta.with_name("text").write_bytes(text)
            meta.symlink_to("text")
        case "fifo":
            os.mkfifo(meta)
        case "folder":
            meta.mkdir()
        case "huge":
            meta.write_bytes(text)
            os.truncate(meta, 1 << 40)
        case "garbage":
            meta.write_bytes(b"\xff" * READ_LIMIT)
        case "empty":
            meta.touch()
    with pytest.raises(InvalidVolumeMetadata) as refused:
        volume.read(sd, IMG, BASE)
    assert refused.value.code == 751
    with pytest.raises(InvalidVolumeMetadata):
        volume.update(sd, IMG, BASE, next_generation)


@pytest.mark.parametrize("kind", ["fifo", "folder"])
async def test_a_volume_that_is_no_regular_file_is_refused(sd: Domain, kind: str) -> None:
    path = (await make(sd)).path
    os.unlink(path)
    if kind == "fifo":
        os.mkfifo(path)
    else:
        os.mkdir(path)
    with pytest.raises(ImageRefused, match="regular file"):
        volume.read(sd, IMG, BASE)


async def test_volumes_are_listed_by_image_and_id_and_damaged_ones_told(sd: Domain) -> None:
    await make(sd, TOP)
    await make(sd, BASE)
    bad = await make(sd, MIDDLE)
    await make(sd, MIDDLE, img_id=OTHER_IMG)
    Path(bad.place.meta).write_bytes(b"")
    os.symlink("/etc", f"{sd.images}/{IMG.replace('6', '4')}")
    Path(sd.images, "_remove_me").mkdir()
    Path(sd.images, IMG, "notes.meta").touch()
    told: list[tuple[str, Error]] = []
    found = volume.volumes(sd, damaged=lambda *error: told.append(error))
    names = [(one.img_id, one.id) for one in found]
    assert names == [(OTHER_IMG, MIDDLE), (IMG, BASE), (IMG, TOP)]
    assert [type(error) for _, error in told] == [ImageRefused, InvalidVolumeMetadata]
    with pytest.raises(ImageRefused):
        volume.volumes(sd)


async def test_a_template_is_found_in_its_own_image_and_changed_there_only(sd: Domain) -> None:
    made = await make(sd, img_id=IMG)
    volume.update(sd, IMG, BASE, lambda old: replace(old, voltype="SHARED"))
    os.mkdir(f"{sd.images}/{OTHER_IMG}")  # which comes first
    for name in ("", ".meta", ".lease"):
        os.link(made.path + name, f"{sd.images}/{OTHER_IMG}/{BASE}{name}")
    assert volume.find(sd, BASE).img_id == IMG
    assert volume.read(sd, OTHER_IMG, BASE).metadata.image == IMG
    with pytest.raises(UnsupportedOperation, match=IMG):
        volume.update(sd, OTHER_IMG, BASE, next_generation)
    with pytest.raises(VolumeDoesNotExist):
        volume.find(sd, TOP)


async def test_legality_and_generation_change_in_one_write(sd: Domain) -> None:
    made = await make(sd)
    os.chmod(made.place.meta, 0o640)
    before = os.stat(made.place.meta)
    with open(made.place.meta, "rb") as old:
        changed = volume.update(
            sd, IMG, BASE, lambda m: replace(m, legality="ILLEGAL", generation=999)
        )
        text = old.read()  # by who had it open before
    assert decode(text, BASE) == made.metadata
    assert (changed.metadata.legality, changed.metadata.generation) == ("ILLEGAL", 999)
    assert volume.read(sd, IMG, BASE) == changed
    after = os.stat(made.place.meta)
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
    with pytest.raises(IllegalVolume):
        volume.require_legal(changed)
    assert not [name for name in files(sd) if name.endswith(".new")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_a_change_keeps_the_owner(sd: Domain) -> None:
    made = await make(sd)
    os.chown(made.place.meta, 36, 37)
    volume.update(sd, IMG, BASE, next_generation)
    after = os.stat(made.place.meta)
    assert (after.st_uid, after.st_gid) == (36, 37)


async def test_a_change_that_fails_writes_nothing(sd: Domain) -> None:
    made = await make(sd)

    def refuse(metadata: VolumeMetadata) -> VolumeMetadata:
        raise BadParameter("x", "y")

    changes: list[tuple[type[Error], Callable[[VolumeMetadata], VolumeMetadata]]] = [
        (BadParameter, refuse),
        (BadParameter, lambda old: replace(old, generation=1000)),
        (MetadataOverflowError, lambda old: replace(old, description="中" * 200)),
    ]
    before = files(sd)
    for error, change in changes:
        with pytest.raises(error):
            volume.update(sd, IMG, BASE, change)
    assert volume.read(sd, IMG, BASE) == made
    assert files(sd) == before


async def test_a_left_over_new_file_is_never_written_into(sd: Domain) -> None:
    made = await make(sd)
    os.link(made.place.meta, made.place.meta + ".new")
    with open(made.place.meta, "rb") as old:
        volume.update(sd, IMG, BASE, next_generation)
        assert old.read() == encode(made.metadata)
    assert volume.read(sd, IMG, BASE).metadata.generation == 1


async def test_no_change_of_many_at_once_is_lost(sd: Domain) -> None:
    await make(sd)
    threads = [
        threading.Thread(
            target=lambda: [volume.update(sd, IMG, BASE, next_generation) for _ in range(25)]
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert volume.read(sd, IMG, BASE).metadata.generation == 100


async def test_metadata_stay_locked_when_they_were_replaced(
    sd: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await make(sd)
    monkeypatch.setattr(metadata_file, "PATIENCE", 0.05)
    with metadata_file.locked(made.place) as held:
        for _ in range(2):
            held.replace(next_generation(held.metadata))
            with pytest.raises(AcquireLockFailure):
                volume.update(sd, IMG, BASE, next_generation)
    assert volume.update(sd, IMG, BASE, next_generation).metadata.generation == 3


async def test_metadata_replaced_before_they_were_locked_are_read_anew(
    sd: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = (await make(sd)).place
    lock = metadata_file.lock

    def late(fd: int) -> bool:
        monkeypatch.setattr(metadata_file, "lock", lock)
        volume.update(sd, IMG, BASE, lambda old: replace(old, generation=5))
        return lock(fd)

    monkeypatch.setattr(metadata_file, "lock", late)
    assert metadata_file.update(place, next_generation).generation == 6


async def test_metadata_that_somebody_keeps_are_not_waited_for_for_ever(
    sd: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await make(sd)
    monkeypatch.setattr(metadata_file, "PATIENCE", 0.05)
    with metadata_file.locked(made.place), pytest.raises(AcquireLockFailure):
        volume.update(sd, IMG, BASE, next_generation)
    volume.update(sd, IMG, BASE, next_generation)


async def test_an_unknown_format_is_read_and_named_when_it_is_used(sd: Domain) -> None:
    await make(sd)
    changed = volume.update(sd, IMG, BASE, lambda old: replace(old, format="QCOW9"))
    with pytest.raises(InvalidVolumeMetadata, match="QCOW9"):
        _ = changed.format


async def test_a_missing_or_empty_lease_is_made_and_another_one_kept(sd: Domain) -> None:
    made = await make(sd)
    prepared: list[str] = []

    def prepare(path: str) -> None:
        prepared.append(path)
        write_slot(path)

    volume_lease.ensure(made, MIB, prepare)
    assert prepared == []  # it has one from the beginning
    content = b""
    for empty in (True, False):
        os.unlink(made.lease)
        if empty:
            Path(made.lease).touch()
        volume_lease.ensure(made, MIB, prepare)
        content = Path(made.lease).read_bytes()
        assert (content[:4], len(content)) == (b"slot", MIB)
    assert len(prepared) == 2
    volume_lease.ensure(made, MIB, nothing)
    assert Path(made.lease).read_bytes() == content
