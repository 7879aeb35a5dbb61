"""What a logical volume says of itself, and whether there is room for one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processes.lvm_report import LogicalVolume, ThinPool, VolumeGroup
from protocol.errors import NoLocalSpace, ThinPoolUnsafe
from storage import local_disk, local_disk_space, local_disk_tags
from storage.local_disk import LocalDisk, rounded
from storage.local_disk_tags import BLANK, Tags

VOLUME = "77777777-7777-4888-8999-aaaaaaaaaaaa"
IMAGE = "66666666-7777-4888-8999-aaaaaaaaaaaa"
JOB = "11111111-2222-4333-8444-555555555555"
VM = "dddddddd-eeee-4fff-8000-111111111111"
MIB = 1 << 20
EXTENT = 4 * MIB
UUIDS = st.uuids().map(str)


def maybe(values: st.SearchStrategy[str]) -> st.SearchStrategy[str | None]:
    return st.none() | values


TAGS = st.builds(
    Tags,
    image_id=maybe(UUIDS),
    parent_id=maybe(UUIDS),
    vm_id=maybe(UUIDS),
    job_id=maybe(UUIDS),
    generation=st.none() | st.integers(0, 999),
    prepared=st.none() | st.integers(0, 10**12 - 1),
    filling=st.booleans(),
    started=st.booleans(),
)


def volume(*tags: str, size: int = EXTENT) -> LogicalVolume:
    return LogicalVolume(VOLUME, size, frozenset(tags), extent_size=EXTENT)


def test_every_tag_is_read() -> None:
    found = local_disk.of(
        LogicalVolume(
            VOLUME,
            2 * EXTENT,
            frozenset(
                {"UPDATING", f"IU_{IMAGE}", f"PU_{BLANK}", f"VM_{VM}", f"JOB_{JOB}", "GEN_42"}
                | {"AT_1700000000", "STARTED", "backup", "MDT_TYPE=Data"}
            ),
            active=True,
            open=True,
            pool="pool0",
            data_percent=12.5,
            extent_size=EXTENT,
        )
    )
    assert found == LocalDisk(
        VOLUME,
        2 * EXTENT,
        "lvmthin",
        image_id=IMAGE,
        vm_id=VM,
        job_id=JOB,
        generation=42,
        prepared=1_700_000_000,
        filling=True,
        started=True,
        active=True,
        open=True,
        data_percent=12.5,
        foreign=frozenset({"backup", "MDT_TYPE=Data"}),
        extent_size=EXTENT,
    )
    assert found.ours


def test_the_tags_of_ovirts_hook_are_enough_to_be_ours() -> None:
    found = local_disk.of(volume(f"IU_{IMAGE}", f"PU_{BLANK}", f"VM_{VM}"))
    assert found.ours
    assert (found.filling, found.job_id, found.foreign) == (False, None, frozenset())


@pytest.mark.parametrize(
    "tags",
    [(), ("UPDATING",), ("backup",), (f"VM_{VM}",), (f"JOB_{JOB}",), ("IU_x",), (f"IU_{IMAGE} ",)],
    ids=lambda tags: ",".join(tags)[:20],
)
def test_a_volume_that_does_not_say_which_image_it_copies_is_not_ours(
    tags: tuple[str, ...],
) -> None:
    assert not local_disk.of(volume(*tags)).ours


def test_two_tags_of_one_kind_say_nothing() -> None:
    """Nobody can tell which of them is true, and the one that is chosen could end a live copy."""
    other = BLANK
    found = local_disk.of(volume(f"IU_{IMAGE}", f"JOB_{JOB}", f"JOB_{other}"))
    assert found.job_id is None
    assert found.foreign == {f"JOB_{JOB}", f"JOB_{other}"}
    assert not local_disk.of(volume(f"IU_{IMAGE}", f"IU_{other}")).ours


def test_of_several_times_the_last_one_is_true() -> None:
    found = local_disk.of(volume(f"IU_{IMAGE}", "AT_20", "AT_1700000000", "AT_3"))
    assert found.prepared == 1_700_000_000
    assert found.foreign == {"AT_20", "AT_3"}


@given(TAGS)
def test_tags_are_read_as_they_were_written(tags: Tags) -> None:
    assert local_disk_tags.parsed(tags.words()) == tags


@given(st.sets(st.text(max_size=60)))
def test_foreign_tags_are_kept_as_they_are(words: set[str]) -> None:
    assert set(local_disk_tags.parsed(words).words()) == words


@pytest.mark.parametrize(
    ("size", "extents"), [(1, 1), (EXTENT - 1, 1), (EXTENT, 1), (EXTENT + 1, 2), (3 * EXTENT, 3)]
)
def test_sizes_are_rounded_up_to_extents(size: int, extents: int) -> None:
    assert rounded(size, EXTENT) == extents * EXTENT
    disk = local_disk.of(volume(size=extents * EXTENT))
    assert disk.fits(size)
    assert not disk.fits(size + EXTENT)
    assert not disk.fits(size - EXTENT)  # it would be larger than its source


def test_only_a_thin_disk_to_which_nothing_was_written_is_blank() -> None:
    new = LocalDisk(VOLUME, EXTENT, "lvmthin", data_percent=0.0)
    written = LocalDisk(VOLUME, EXTENT, "lvmthin", data_percent=0.01)
    asleep = LocalDisk(VOLUME, EXTENT, "lvmthin")
    linear = LocalDisk(VOLUME, EXTENT, "lvm")
    assert [disk.blank for disk in (new, written, asleep, linear)] == [True, False, False, False]


def test_a_linear_disk_takes_whole_extents_of_the_group() -> None:
    group = VolumeGroup("vg", 100 * EXTENT, 2 * EXTENT, EXTENT)
    local_disk_space.check_linear(group, EXTENT + 1)
    with pytest.raises(NoLocalSpace, match="vgextend vg DEVICE") as caught:
        local_disk_space.check_linear(group, 2 * EXTENT + 1)
    assert (caught.value.needed, caught.value.available) == (3 * EXTENT, 2 * EXTENT)


def pool(
    data: float | None = 50.0,
    metadata: float | None = 10.0,
    *,
    size: int = 100 * MIB,
    metadata_size: int = 4 * MIB,
    error_when_full: bool = True,
    zeroing: bool = True,
) -> ThinPool:
    told = (data, metadata, error_when_full, zeroing)
    return ThinPool("pool0", size, 64 << 10, metadata_size, *told)


def test_a_thin_disk_takes_what_is_written_to_it() -> None:
    local_disk_space.check_thin("vg", pool(), 50 * MIB)
    with pytest.raises(NoLocalSpace, match=r"lvextend --size \+65536b vg/pool0") as caught:
        local_disk_space.check_thin("vg", pool(), 50 * MIB + 1)
    assert caught.value.available == 50 * MIB


def test_what_is_promised_to_others_is_not_free() -> None:
    local_disk_space.check_thin("vg", pool(), 20 * MIB, 30 * MIB)
    words = r"vg/pool0 \(31457280 more are promised to copies that go on: wait for these"
    with pytest.raises(NoLocalSpace, match=words) as caught:
        local_disk_space.check_thin("vg", pool(), 20 * MIB + 1, 30 * MIB)
    assert caught.value.available == 20 * MIB
    with pytest.raises(NoLocalSpace, match=r"\+20971520b") as caught:  # more than there is
        local_disk_space.check_thin("vg", pool(), 10 * MIB, 60 * MIB)
    assert caught.value.available == 0


def test_metadata_that_is_promised_to_others_is_not_free_either() -> None:
    large = pool(0.0, 0.0, size=1 << 40)
    local_disk_space.check_thin("vg", large, 1 << 30, 1 << 30)
    with pytest.raises(NoLocalSpace, match=r"metadata of thin pool .* are promised") as caught:
        local_disk_space.check_thin("vg", large, 1 << 30, 2 << 30)
    assert caught.value.available == 2 * MIB


def test_the_metadata_of_a_pool_must_have_room_too() -> None:
    large = 1 << 40
    with pytest.raises(NoLocalSpace, match="--poolmetadatasize") as caught:
        local_disk_space.check_thin("vg", pool(size=4 * large), large)
    assert caught.value.needed == large // (64 << 10) * 64 + MIB  # that is to stay free
    with pytest.raises(NoLocalSpace, match="--poolmetadatasize"):
        local_disk_space.check_thin("vg", pool(metadata=95.0), MIB)


@pytest.mark.parametrize("data", [MIB, 5 << 30, 100 << 30, 1 << 40])
@pytest.mark.parametrize("size", [4 * MIB, 10 * MIB, 16 * MIB, 40 * MIB, 1 << 30])
def test_the_command_for_metadata_is_enough_though_none_is_free(data: int, size: int) -> None:
    full = pool(0.0, 100.0, size=4 << 40, metadata_size=size)
    with pytest.raises(NoLocalSpace) as caught:
        local_disk_space.check_thin("vg", full, data)
    found = re.search(r"\+(\d+)b", caught.value.command)
    assert found is not None
    more = size + int(found[1])
    larger = pool(0.0, 100.0 * size / more, size=4 << 40, metadata_size=more)
    local_disk_space.check_thin("vg", larger, data)


def test_lvm_wants_four_mib_of_metadata_or_a_quarter_of_it() -> None:
    small, usual = pool(metadata=76.0), pool(metadata=76.0, metadata_size=128 * MIB)
    with pytest.raises(NoLocalSpace, match="--poolmetadatasize") as caught:
        local_disk_space.check_thin("vg", small, MIB)
    assert caught.value.needed == MIB + 16 * 64
    local_disk_space.check_thin("vg", usual, MIB)


def test_a_pool_that_lets_writes_wait_is_refused() -> None:
    with pytest.raises(ThinPoolUnsafe, match="lvchange --errorwhenfull y vg/pool0"):
        local_disk_space.check_thin("vg", pool(error_when_full=False), MIB)


def test_a_pool_that_does_not_clear_what_it_gives_out_is_refused() -> None:
    with pytest.raises(ThinPoolUnsafe, match="lvchange --zero y vg/pool0"):
        local_disk_space.check_thin("vg", pool(zeroing=False), MIB)


@pytest.mark.parametrize(("data", "metadata"), [(None, 1.0), (1.0, None)])
def test_a_pool_that_does_not_say_how_full_it_is_is_refused(
    data: float | None, metadata: float | None
) -> None:
    with pytest.raises(ThinPoolUnsafe, match="does not say how full"):
        local_disk_space.check_thin("vg", pool(data, metadata), MIB)
