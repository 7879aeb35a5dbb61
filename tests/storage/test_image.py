"""Images that are copied: what is accepted, and the tree of nodes that the copy gets."""

import json
import subprocess
from pathlib import Path

import pytest

from protocol.errors import ImageMissing, ImageRefused, WrongFormat
from storage.image import Chain, Format, Policy, Role, inspect
from tests.storage.headers import MIB, Crafted

pytestmark = pytest.mark.tools("qemu-img", "qemu-io")
POLICY = Policy()
ODD = "a, b 'c' \"d\" é中:e=f%g\\h"  # whatever a name may hold


def qemu_img(*args: object) -> None:
    subprocess.run(["qemu-img", *map(str, args)], check=True, stdout=subprocess.DEVNULL)


def write(path: Path, pattern: int, at: str = "0", count: str = "64k") -> None:
    format = "qcow2" if path.suffix == ".qcow2" else "raw"
    argv = ["qemu-io", "-f", format, "-c", f"write -P {pattern} {at} {count}", f"file:{path}"]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def three_links(folder: Path, name: str = "") -> Path:
    """A raw base, and two qcow2 images over it; each wrote its own part."""
    base, middle, top = (
        folder / f"{name}{part}" for part in ("base.raw", "middle.qcow2", "top.qcow2")
    )
    qemu_img("create", "-q", "-f", "raw", f"file:{base}", "1M")
    write(base, 1)
    for image, below, format in ((middle, base, "raw"), (top, middle, "qcow2")):
        qemu_img("create", "-q", "-f", "qcow2", "-u", "-b", "x", "-F", format, image, "1M")
        # rebase takes any name; the one on the command line of create is parsed by QEMU
        qemu_img("rebase", "-u", "-f", "qcow2", "-F", format, "-b", f"./{below.name}", image)
    write(middle, 2, "64k")
    write(top, 3, "128k")
    return top


def content(chain: Chain, scratch: Path) -> bytes:
    qemu_img("convert", "-O", "raw", f"json:{json.dumps(chain.node())}", scratch)
    return scratch.read_bytes()


THREE = bytes([1]) * 65536 + bytes([2]) * 65536 + bytes([3]) * 65536 + bytes(MIB - 3 * 65536)


@pytest.mark.parametrize("declared", ["qcow2", None])
async def test_chain_is_found_and_copied_through_its_node(
    tmp_path: Path, declared: Format | None
) -> None:
    top = three_links(tmp_path)
    chain = await inspect(str(top), declared=declared, policy=POLICY)
    assert [Path(link.path).name for link in chain.links] == [
        "top.qcow2", "middle.qcow2", "base.raw",
    ]  # fmt: skip
    assert [link.format for link in chain.links] == ["qcow2", "qcow2", "raw"]
    assert (chain.format, chain.virtual_size) == ("qcow2", MIB)
    assert content(chain, tmp_path / "out") == THREE


async def test_node_carries_names_with_every_character(tmp_path: Path) -> None:
    folder = tmp_path / ODD
    folder.mkdir()
    chain = await inspect(str(three_links(folder, ODD)), declared="qcow2", policy=POLICY)
    assert len(chain.links) == 3
    assert content(chain, tmp_path / "out") == THREE


async def test_node_of_the_bottom_is_closed(tmp_path: Path) -> None:
    """An image that gets a backing file *after* it was looked at is still read without one."""
    image = Crafted().write(tmp_path / "x.qcow2")
    chain = await inspect(str(image), declared="qcow2", policy=POLICY)
    assert chain.node()["backing"] is None
    qemu_img("rebase", "-u", "-F", "raw", "-b", "/etc/passwd", image)
    assert content(chain, tmp_path / "out") == bytes(MIB)


async def test_image_through_a_link_is_the_real_one(tmp_path: Path) -> None:
    real, other = tmp_path / "real", tmp_path / "other"
    real.mkdir()
    other.mkdir()
    (other / "link").symlink_to(three_links(real))
    chain = await inspect(str(other / "link"), declared="qcow2", policy=POLICY)
    assert {Path(path).parent for path in chain.files} == {real}


async def test_relative_path_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_links(tmp_path)
    monkeypatch.chdir(tmp_path)
    chain = await inspect("top.qcow2", declared="qcow2", policy=POLICY)
    assert chain.files[0] == str(tmp_path / "top.qcow2")


@pytest.mark.parametrize("declared", ["raw", None])
async def test_raw_image_is_its_file(tmp_path: Path, declared: Format | None) -> None:
    image = tmp_path / "x"
    image.write_bytes(b"\1" * 1000)
    chain = await inspect(str(image), declared=declared, policy=POLICY)
    assert (chain.format, chain.virtual_size) == ("raw", 1024)  # QEMU rounds up
    assert chain.node() == {"driver": "raw", "file": {"driver": "file", "filename": str(image)}}
    assert content(chain, tmp_path / "out") == b"\1" * 1000 + bytes(24)


async def test_backing_file_under_an_allowed_directory_is_accepted(tmp_path: Path) -> None:
    bases, images = tmp_path / "bases" / "deep", tmp_path / "images"
    bases.mkdir(parents=True)
    images.mkdir()
    base = three_links(bases)
    top = images / "top.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    policy = Policy(allow=(str(tmp_path / "bases"),))
    chain = await inspect(str(top), declared="qcow2", policy=policy)
    assert len(chain.links) == 4
    assert content(chain, tmp_path / "out") == THREE


async def test_allowed_directory_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    base = three_links(tmp_path / "real")
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", tmp_path / "top.qcow2")
    policy = Policy(allow=(str(tmp_path / "link"),))
    chain = await inspect(str(tmp_path / "top.qcow2"), declared="qcow2", policy=policy)
    assert len(chain.links) == 4


async def test_data_file_under_an_allowed_directory_is_read(tmp_path: Path) -> None:
    image, data = tmp_path / "x.qcow2", tmp_path / "x.data"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={data}", image, "1M")
    write(image, 5)
    policy = Policy(allow=(str(tmp_path),))
    chain = await inspect(str(image), declared="qcow2", policy=policy)
    assert chain.links[0].data_file == str(data)
    assert chain.files == (str(image), str(data))
    assert content(chain, tmp_path / "out") == bytes([5]) * 65536 + bytes(MIB - 65536)


async def test_data_file_that_is_copied_is_the_one_that_was_judged(tmp_path: Path) -> None:
    """The name in the header is a link, and leads elsewhere after the look."""
    image, link, data = tmp_path / "x.qcow2", tmp_path / "link", tmp_path / "x.data"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={data}", image, "1M")
    write(image, 5)
    qemu_img("amend", "-f", "qcow2", "-o", f"data_file={link}", image)
    link.symlink_to(data)
    policy = Policy(allow=(str(tmp_path),))
    chain = await inspect(str(image), declared="qcow2", policy=policy)
    (tmp_path / "secret").write_bytes(bytes([9]) * MIB)
    link.unlink()
    link.symlink_to(tmp_path / "secret")
    assert content(chain, tmp_path / "out") == bytes([5]) * 65536 + bytes(MIB - 65536)


async def test_old_version_is_accepted(tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "qcow2", "-o", "compat=0.10", tmp_path / "x", "3M")
    chain = await inspect(str(tmp_path / "x"), declared=None, policy=POLICY)
    assert chain.virtual_size == 3 * MIB


async def test_compressed_zstd_extended_l2_and_snapshots_are_accepted(tmp_path: Path) -> None:
    options = "compression_type=zstd,extended_l2=on,cluster_size=2M,preallocation=metadata"
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, tmp_path / "x", "10M")
    qemu_img("snapshot", "-c", "one", tmp_path / "x")
    chain = await inspect(str(tmp_path / "x"), declared="qcow2", policy=POLICY)
    assert chain.virtual_size == 10 * MIB


async def test_luks_content_is_copied_only_when_declared_raw(tmp_path: Path) -> None:
    image = tmp_path / "x"
    image.write_bytes(b"LUKS\xba\xbe\0\2" + bytes(4088))
    assert (await inspect(str(image), declared="raw", policy=POLICY)).format == "raw"
    with pytest.raises(ImageRefused, match="luks"):
        await inspect(str(image), declared=None, policy=POLICY)


@pytest.mark.parametrize("role", ["source", "target"])
@pytest.mark.parametrize("path", ["nope", "nope/x", "file/x"])
async def test_missing_image_is_missing(tmp_path: Path, path: str, role: Role) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ImageMissing):
        await inspect(str(tmp_path / path), declared="raw", policy=POLICY, role=role)


@pytest.mark.parametrize("format", ["raw", "qcow2"])
async def test_existing_target_is_told_by_its_format(tmp_path: Path, format: Format) -> None:
    target = tmp_path / "x"
    qemu_img("create", "-q", "-f", format, target, "2M")
    chain = await inspect(str(target), declared=format, policy=POLICY, role="target")
    assert (chain.format, chain.virtual_size, len(chain.links)) == (format, 2 * MIB, 1)
    if format == "qcow2":
        assert chain.node()["backing"] is None


async def test_qcow2_target_with_backing_or_data_file_is_refused(tmp_path: Path) -> None:
    """Even where a source may have them: what is written would not be the whole disk."""
    policy = Policy(allow=(str(tmp_path),))
    top = three_links(tmp_path)
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/d", tmp_path / "x", "1M")
    for target in (top, tmp_path / "x"):
        await inspect(str(target), declared="qcow2", policy=policy)
        with pytest.raises(ImageRefused, match="a target cannot have"):
            await inspect(str(target), declared="qcow2", policy=policy, role="target")


async def test_image_file_is_not_a_raw_target(tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "x", "1M")
    with pytest.raises(WrongFormat, match="is qcow2, not raw"):
        await inspect(str(tmp_path / "x"), declared="raw", policy=POLICY, role="target")


async def test_block_device_is_an_image(tmp_path: Path) -> None:
    """Left-overs on a device are no reason to refuse it as a raw target, but as a raw source."""
    backing = Crafted().write(tmp_path / "disk")
    with backing.open("ab") as file:
        file.truncate(2 * MIB)
    loop = subprocess.run(
        ["losetup", "-f", "--show", backing], check=False, capture_output=True, text=True
    )
    if loop.returncode:
        pytest.skip(f"no loop device: {loop.stderr.strip()}")
    device = loop.stdout.strip()
    try:
        chain = await inspect(device, declared="raw", policy=POLICY, role="target")
        assert chain.virtual_size == 2 * MIB
        file_node = {"driver": "host_device", "filename": device}
        assert chain.node() == {"driver": "raw", "file": file_node}
        with pytest.raises(WrongFormat):
            await inspect(device, declared="raw", policy=POLICY)
        chain = await inspect(device, declared="qcow2", policy=POLICY)
        assert chain.virtual_size == MIB
        assert content(chain, tmp_path / "out") == bytes(MIB)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
