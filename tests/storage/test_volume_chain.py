"""The chain of a volume: by metadata, compared with the images, never led by them."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BrokenVolumeChain, Error, ImageRefused, WrongFormat
from storage import volume, volume_chain
from storage.chain import Chain, Node
from storage.domain import Domain
from storage.policy import Policy
from storage.volume import Volume
from storage.volume_metadata import VolumeMetadata
from tests.storage.headers import Crafted, over, with_data_file
from tests.storage.volumes import BASE, IMG, MIB, MIDDLE, TOP, make, new_domain

pytestmark = pytest.mark.tools("qemu-img")


@pytest.fixture
async def sd(tmp_path: Path) -> Domain:
    """raw base, two qcow2 volumes on it."""
    made = new_domain(tmp_path / "mount")
    await make(made, BASE)
    await make(made, MIDDLE, parent=BASE)
    await make(made, TOP, parent=MIDDLE)
    return made


def chain(sd: Domain, vol_id: str = TOP) -> tuple[Volume, ...]:
    return volume_chain.chain(sd, volume.read(sd, IMG, vol_id))


def inspect(sd: Domain, vol_id: str = TOP, **options: Any) -> Chain:
    return volume_chain.inspect(sd, chain(sd, vol_id), **options)


def change(sd: Domain, vol_id: str, **fields: Any) -> None:
    def changed(metadata: VolumeMetadata) -> VolumeMetadata:
        return replace(metadata, **fields)

    volume.update(sd, IMG, vol_id, changed)


def path(sd: Domain, vol_id: str) -> Path:
    return Path(sd.images, IMG, vol_id)


def rebase(sd: Domain, vol_id: str, *options: str) -> None:
    subprocess.run(
        ["qemu-img", "rebase", "-q", "-u", "-f", "qcow2", *options, path(sd, vol_id)], check=True
    )


async def test_a_chain_goes_from_the_volume_down_to_its_base(sd: Domain) -> None:
    assert [one.id for one in chain(sd)] == [TOP, MIDDLE, BASE]
    assert [one.id for one in chain(sd, BASE)] == [BASE]


async def test_the_tree_is_explicit_from_top_to_base(sd: Domain) -> None:
    found = inspect(sd)
    assert [link.format for link in found.links] == ["qcow2", "qcow2", "raw"]
    assert found.virtual_size == MIB
    tree: Node | None = found.node()
    names = []
    while tree is not None:
        names.append(tree["file"]["filename"])
        tree = tree.get("backing")
    assert names == [str(path(sd, one)) for one in (TOP, MIDDLE, BASE)]


async def test_what_is_read_through_the_tree_is_what_was_written(
    sd: Domain, tmp_path: Path
) -> None:
    for number, vol_id in enumerate((BASE, MIDDLE, TOP), start=1):
        command = f"write -q -P {number} {number * 65536} 65536"
        format = "raw" if vol_id == BASE else "qcow2"
        subprocess.run(["qemu-io", "-f", format, "-c", command, path(sd, vol_id)], check=True)
    node = "json:" + json.dumps(inspect(sd).node())
    out = tmp_path / "out"
    subprocess.run(["qemu-img", "convert", "-O", "raw", node, out], check=True)
    content = out.read_bytes()
    assert [content[number * 65536] for number in range(5)] == [0, 1, 2, 3, 0]


async def test_a_base_of_qcow2_has_no_backing_in_its_tree(tmp_path: Path) -> None:
    sd = new_domain(tmp_path)
    await make(sd, format="qcow2")
    assert inspect(sd, BASE).node()["backing"] is None


# --- chains that are broken by their metadata --------------------------------------------------


@pytest.mark.parametrize(
    ("vol_id", "fields", "reason"),
    [
        (MIDDLE, {"parent": TOP}, "loop"),
        (TOP, {"parent": TOP}, "loop"),
        (MIDDLE, {"parent": IMG}, f"parent {IMG} is missing"),
        (MIDDLE, {"parent": "../x"}, "no UUID"),
        (MIDDLE, {"parent": ""}, "no UUID"),
        (BASE, {"parent": IMG}, "raw volume"),
    ],
    ids=str,
)
async def test_a_broken_chain_is_named(
    sd: Domain, vol_id: str, fields: dict[str, str], reason: str
) -> None:
    change(sd, vol_id, **fields)
    with pytest.raises(BrokenVolumeChain, match=reason) as broken:
        chain(sd)
    assert (broken.value.vol_id, broken.value.code) == (TOP, 4023)


async def test_a_missing_parent_file_is_a_broken_chain(sd: Domain) -> None:
    path(sd, BASE).unlink()
    with pytest.raises(BrokenVolumeChain, match="missing"):
        chain(sd)


async def test_a_chain_is_bounded(sd: Domain) -> None:
    top = volume.read(sd, IMG, TOP)
    assert len(volume_chain.chain(sd, top, max_depth=3)) == 3
    with pytest.raises(BrokenVolumeChain, match="more than 2"):
        volume_chain.chain(sd, top, max_depth=2)


# --- images that say another thing than their metadata ------------------------------------------


def other_parent(sd: Domain) -> None:
    rebase(sd, TOP, "-F", "raw", "-b", BASE)


def parent_outside(sd: Domain) -> None:
    rebase(sd, MIDDLE, "-F", "raw", "-b", "/etc/passwd")


def other_format(sd: Domain) -> None:
    rebase(sd, MIDDLE, "-F", "qcow2", "-b", BASE)


def no_parent_in_image(sd: Domain) -> None:
    rebase(sd, MIDDLE, "-b", "")


def no_parent_in_metadata(sd: Domain) -> None:
    change(sd, MIDDLE, parent="00000000-0000-0000-0000-000000000000")


def a_json_parent(sd: Domain) -> None:
    over('json:{"driver":"file","filename":"/etc/passwd"}').write(path(sd, MIDDLE))


def a_parent_without_format(sd: Domain) -> None:
    over(BASE, None).write(path(sd, MIDDLE))


def a_data_file(sd: Domain) -> None:
    image, parent = with_data_file("/etc/passwd"), over(BASE)
    extensions = [*image.extensions, *parent.extensions]
    replace(image, backing=parent.backing, extensions=extensions).write(path(sd, MIDDLE))


def raw_where_cow_was_said(sd: Domain) -> None:
    path(sd, MIDDLE).write_bytes(bytes(MIB))


def a_vmdk(sd: Domain) -> None:
    path(sd, MIDDLE).write_bytes(b"# Disk DescriptorFile\n".ljust(MIB, b"\n"))


def a_truncated_header(sd: Domain) -> None:
    os.truncate(path(sd, MIDDLE), 40)


def a_link_out(sd: Domain) -> None:
    path(sd, BASE).unlink()
    path(sd, BASE).symlink_to("/etc/passwd")


def a_huge_disk(sd: Domain) -> None:
    os.truncate(path(sd, BASE), 2 * MIB)


LIES: dict[Callable[[Domain], None], tuple[type[Error], str]] = {
    other_parent: (ImageRefused, "is not its parent by metadata"),
    parent_outside: (ImageRefused, "not in the image's folder"),
    other_format: (WrongFormat, "is qcow2 for"),
    no_parent_in_image: (ImageRefused, "names no backing file"),
    no_parent_in_metadata: (ImageRefused, "its metadata have no parent"),
    a_json_parent: (ImageRefused, "json:"),
    a_parent_without_format: (ImageRefused, "without its format"),
    a_data_file: (ImageRefused, "data file"),
    raw_where_cow_was_said: (WrongFormat, "is raw, not qcow2"),
    a_vmdk: (WrongFormat, "is vmdk, not qcow2"),
    a_truncated_header: (ImageRefused, "truncated"),
    a_link_out: (ImageRefused, "out of storage domain"),
    a_huge_disk: (ImageRefused, "is not allowed"),
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
async def test_an_image_that_is_not_what_its_metadata_say_is_refused(
    sd: Domain, lie: Callable[[Domain], None]
) -> None:
    kind, reason = LIES[lie]
    # Allowed directories are for images outside of domains: they open no way out of this one.
    policy = Policy(allow=("/etc",), max_virtual_size=MIB)
    assert inspect(sd, policy=policy).virtual_size == MIB
    lie(sd)
    with pytest.raises(kind, match=reason):
        inspect(sd, policy=policy)


async def test_a_link_that_comes_after_the_chain_was_found_is_refused(sd: Domain) -> None:
    found = chain(sd)
    a_link_out(sd)
    with pytest.raises(ImageRefused, match="out of storage domain"):
        volume_chain.inspect(sd, found)


async def test_a_raw_volume_may_hold_an_image_and_stays_raw(sd: Domain) -> None:
    """A guest may write what it likes into its disk; it opens nothing."""
    path(sd, BASE).write_bytes(over("/etc/passwd").build())
    link = inspect(sd).links[-1]
    assert (link.format, link.file["filename"]) == ("raw", str(path(sd, BASE)))


async def test_a_parent_may_be_named_by_the_folder_of_its_image(sd: Domain) -> None:
    """Older writers did."""
    rebase(sd, TOP, "-F", "qcow2", "-b", f"../{IMG}/{MIDDLE}")
    assert len(inspect(sd).links) == 3


# --- the configuration of a VM, which only says that it is COW ----------------------------------


async def vm_configuration(tmp_path: Path, content: bytes, capacity: int = 10240) -> Domain:
    sd = new_domain(tmp_path)
    await make(sd, format="raw", capacity=capacity)
    change(sd, BASE, format="COW")
    path(sd, BASE).write_bytes(content)
    return sd


async def test_the_configuration_of_a_vm_is_raw(tmp_path: Path) -> None:
    sd = await vm_configuration(tmp_path, b"<domain/>".ljust(10240))
    (link,) = inspect(sd, BASE).links
    assert (link.format, link.virtual_size) == ("raw", 10240)


async def test_a_small_volume_that_is_qcow2_is_qcow2(tmp_path: Path) -> None:
    sd = await vm_configuration(tmp_path, Crafted(size=10240).build())
    assert inspect(sd, BASE).format == "qcow2"


@pytest.mark.parametrize(
    ("content", "capacity"), [(b"# Disk DescriptorFile\n", 10240), (bytes(10752), 10752)]
)
async def test_nothing_else_is_taken_for_it(tmp_path: Path, content: bytes, capacity: int) -> None:
    sd = await vm_configuration(tmp_path, content, capacity)
    with pytest.raises(WrongFormat):
        inspect(sd, BASE)
