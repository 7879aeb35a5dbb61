"""Images made to read the host's files, to hang us, or to lie: refused by name, none is opened.

The content that a refused image asks for must never be touched, so most of them name things that
would hang or fail loudly.
"""

import os
import socket
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from processes import qemu_img
from processes.image_node import Node
from processes.qemu_img import ImageInfo
from protocol.errors import ImageMissing, ImageRefused, ToolMissing, WrongFormat
from storage.image import Format, Policy, inspect
from tests.storage.headers import MIB, Crafted, over, with_data_file

pytestmark = pytest.mark.tools("qemu-img")
POLICY = Policy()
TIB = 1 << 40


def create(path: Path, *options: str, format: str = "qcow2") -> Path:
    argv = ["qemu-img", "create", "-q", "-f", format, *options, str(path), "1M"]
    subprocess.run(argv, check=True)
    return path


async def refused(
    path: Path, reason: str, *, declared: Format | None = "qcow2", policy: Policy = POLICY
) -> ImageRefused:
    """Inspect, in bounded time; the error must give the reason."""
    with trio.fail_after(20), pytest.raises(ImageRefused, match=reason) as error:
        await inspect(str(path), declared=declared, policy=policy)
    return error.value


@pytest.mark.parametrize("declared", ["qcow2", None])
async def test_backing_file_of_the_host_is_refused_by_name(
    tmp_path: Path, declared: Format | None
) -> None:
    image = create(tmp_path / "x", "-u", "-b", "/etc/passwd", "-F", "raw")
    error = await refused(image, "backing file '/etc/passwd'", declared=declared)
    assert error.image == str(image)


@pytest.mark.parametrize(
    "name", ["../../../../../../../../../../etc/passwd", "sub/base", "./sub/b"]
)
async def test_backing_file_outside_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    for inside in ("base", "b"):
        create(tmp_path / "sub" / inside, format="raw")
    await refused(over(name).write(tmp_path / "x"), "is not in the image's folder")


async def test_backing_file_in_the_folder_above_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    create(tmp_path / "base", format="raw")
    await refused(over("../base").write(tmp_path / "sub" / "x"), "is not in the image's folder")


async def test_link_of_the_chain_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base").symlink_to("/etc/passwd")
    await refused(over("base").write(tmp_path / "x"), "backing file 'base' is not in")


async def test_second_link_is_judged_like_the_first(tmp_path: Path) -> None:
    over("/etc/passwd").write(tmp_path / "middle")
    image = over("middle", "qcow2").write(tmp_path / "x")
    error = await refused(image, "backing file '/etc/passwd'")
    assert error.image == str(tmp_path / "middle")


async def test_folder_of_an_allowed_link_is_not_allowed_by_that(tmp_path: Path) -> None:
    """Links lie beside the *source*; one that lies elsewhere opens no further folder."""
    bases, images = tmp_path / "bases", tmp_path / "images"
    for folder in (bases / "good", images):
        folder.mkdir(parents=True)
    create(bases / "secret", format="raw")
    over("../secret").write(bases / "good" / "base")
    image = over(f"{bases}/good/base", "qcow2").write(images / "x")
    await refused(image, "secret' is not in", policy=Policy(allow=(f"{bases}/good",)))


async def test_allowed_directory_counts_by_whole_components(tmp_path: Path) -> None:
    for folder in ("srv", "srv2", "images"):
        (tmp_path / folder).mkdir()
    create(tmp_path / "srv2" / "base", format="raw")
    image = over(f"{tmp_path}/srv2/base").write(tmp_path / "images" / "x")
    await refused(image, "is not in", policy=Policy(allow=(f"{tmp_path}/srv",)))
    await inspect(str(image), declared="qcow2", policy=Policy(allow=(f"{tmp_path}/srv2/",)))


@pytest.mark.parametrize(
    "name",
    [
        'json:{"driver":"file","filename":"/etc/passwd"}',
        "nbd://127.0.0.1:10809/x",
        "nbd:unix:/tmp/s",
        "http://127.0.0.1/x",
        "fat:/etc",
        "file:base",
        "base:1",
    ],
)
async def test_json_and_protocols_are_refused_by_name(tmp_path: Path, name: str) -> None:
    """A colon before the first slash is a protocol, even when a file has that name."""
    if "/" not in name:
        create(tmp_path / "base", format="raw").rename(tmp_path / name)
    protocol = name.split(":", maxsplit=1)[0]
    await refused(over(name).write(tmp_path / "x"), f"json: desc|the protocol '{protocol}'")


async def test_colon_after_a_slash_is_a_file_name(tmp_path: Path) -> None:
    create(tmp_path / "base", format="raw").rename(tmp_path / "nbd:x")
    image = over("./nbd:x").write(tmp_path / "x")
    chain = await inspect(str(image), declared="qcow2", policy=POLICY)
    assert len(chain.links) == 2


async def test_backing_file_without_format_is_refused(tmp_path: Path) -> None:
    create(tmp_path / "base", format="raw")
    image = over("base", None).write(tmp_path / "x")
    await refused(image, "backing file 'base' is named without its format")


@pytest.mark.parametrize("format", ["vmdk", "file", "", "RAW"])
async def test_backing_file_of_another_format_is_refused(tmp_path: Path, format: str) -> None:
    create(tmp_path / "base", format="raw")
    await refused(over("base", format).write(tmp_path / "x"), "not raw or qcow2")


async def test_missing_backing_file_is_refused_by_name(tmp_path: Path) -> None:
    await refused(over("base").write(tmp_path / "x"), "backing file 'base': .*does not exist")


async def test_loop_of_links_on_disk_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base").symlink_to("base")
    await refused(over("base").write(tmp_path / "x"), "Too many levels of symbolic links")
    with pytest.raises(ImageRefused, match="Too many levels"):
        await inspect(str(tmp_path / "base"), declared="raw", policy=POLICY)


@pytest.mark.parametrize("length", [1, 2, 3])
async def test_loop_in_the_chain_is_refused(tmp_path: Path, length: int) -> None:
    for n in range(length):
        over(str((n + 1) % length), "qcow2").write(tmp_path / str(n))
    await refused(tmp_path / "0", "its chain is a loop")


async def test_loop_through_a_hard_link_is_refused(tmp_path: Path) -> None:
    over("b", "qcow2").write(tmp_path / "a")
    os.link(tmp_path / "a", tmp_path / "b")
    await refused(tmp_path / "a", "its chain is a loop")


async def test_chain_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    create(tmp_path / "0", format="raw")
    for n in range(1, 6):
        over(str(n - 1), "raw" if n == 1 else "qcow2").write(tmp_path / str(n))
    policy = Policy(max_depth=5)
    assert len((await inspect(str(tmp_path / "4"), declared="qcow2", policy=policy)).links) == 5
    await refused(tmp_path / "5", "chain of more than 5 images", policy=policy)


async def test_chain_whose_names_do_not_fit_an_argument_is_refused(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["é" * 120] * 4)
    folder.mkdir(parents=True)
    create(tmp_path / "0", format="raw").rename(folder / "0")
    for n in range(1, 40):
        over(str(n - 1), "raw" if n == 1 else "qcow2").write(folder / str(n))
    await refused(folder / "39", "too long together", policy=Policy(max_depth=64))


@pytest.mark.parametrize("name", ["d.raw", "/etc/passwd", "json:{}", "nbd:unix:/s", None])
async def test_data_file_is_refused_unless_allowed(tmp_path: Path, name: str | None) -> None:
    create(tmp_path / "d.raw", format="raw")
    image = with_data_file(name).write(tmp_path / "x")
    await refused(image, "data file|does not name")


async def test_data_file_is_never_a_device_or_fifo(tmp_path: Path) -> None:
    policy = Policy(allow=(str(tmp_path), "/dev"))
    os.mkfifo(tmp_path / "fifo")
    await refused(with_data_file("fifo").write(tmp_path / "x"), "it is a FIFO", policy=policy)
    await refused(with_data_file("/dev/null").write(tmp_path / "y"), "character", policy=policy)


async def test_chain_is_never_through_a_device_fifo_or_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "null").symlink_to("/dev/null")
    policy = Policy(allow=("/dev",))
    for name, kind in (("fifo", "a FIFO"), ("folder", "a directory"), ("null", "a character")):
        await refused(over(name).write(tmp_path / "x"), f"it is {kind}", policy=policy)


async def test_chain_is_never_through_a_block_device(tmp_path: Path) -> None:
    """A disk of the host, which an allowed directory happens to hold."""
    disk = create(tmp_path / "disk", format="raw")
    argv = ["losetup", "-f", "--show", str(disk)]
    loop = subprocess.run(argv, check=False, capture_output=True, text=True)
    if loop.returncode:
        pytest.skip(f"no loop device: {loop.stderr.strip()}")
    device = loop.stdout.strip()
    try:
        image = over(device).write(tmp_path / "x")
        await refused(image, "it is a device, not a regular file", policy=Policy(allow=("/dev",)))
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


async def test_encrypted_image_is_refused(tmp_path: Path) -> None:
    await refused(Crafted(crypt_method=1).write(tmp_path / "x"), r"it is encrypted \(aes\)")
    await refused(Crafted(crypt_method=2).write(tmp_path / "y"), r"it is encrypted \(luks\)")


async def test_corrupt_image_is_refused(tmp_path: Path) -> None:
    await refused(Crafted(incompatible=2).write(tmp_path / "x"), "it is marked corrupt")


async def test_encrypted_or_corrupt_backing_file_is_refused(tmp_path: Path) -> None:
    for base in (Crafted(crypt_method=2), Crafted(incompatible=2)):
        base.write(tmp_path / "base")
        await refused(over("base", "qcow2").write(tmp_path / "x"), "encrypted|corrupt")


async def test_huge_virtual_size_is_refused_by_name(tmp_path: Path) -> None:
    huge = Crafted(size=65 * TIB, l1_size=1 << 18)
    await refused(huge.write(tmp_path / "x"), f"virtual size {65 * TIB}")
    policy = Policy(max_virtual_size=MIB)
    await inspect(str(create(tmp_path / "fits")), declared="qcow2", policy=policy)
    await refused(Crafted(size=MIB + 512).write(tmp_path / "y"), "virtual size", policy=policy)


async def test_huge_link_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    policy = Policy(max_virtual_size=MIB)
    with (tmp_path / "base").open("wb") as file:
        file.truncate(2 * MIB)
    await refused(tmp_path / "base", "virtual size 2097152", declared="raw", policy=policy)
    image = over("base").write(tmp_path / "x")
    error = await refused(image, "virtual size 2097152", policy=policy)
    assert error.image == str(tmp_path / "base")
    Crafted(size=2 * MIB).write(tmp_path / "base")
    await refused(over("base", "qcow2").write(tmp_path / "x"), "virtual size", policy=policy)


async def test_size_that_qemu_sees_otherwise_is_refused(tmp_path: Path) -> None:
    image = Crafted(size=1000).write(tmp_path / "x")
    await refused(image, "virtual size 512 by qemu-img, 1000 by its header")


@pytest.mark.parametrize("length", [4, 23, 24, 100, 4096, 65536, 196608])
async def test_truncated_image_is_refused(tmp_path: Path, length: int) -> None:
    image = tmp_path / "x"
    image.write_bytes(Crafted().build()[:length])
    await refused(image, "truncated")


async def test_image_that_only_qemu_finds_bad_is_refused_with_its_reason(tmp_path: Path) -> None:
    data = bytearray(Crafted(snapshots=1, snapshots_offset=65536).build())
    data[65536:] = struct.pack(">QIHH", 3, 1, 65535, 65535) + b"\xff" * 65536
    data += bytes(4 * 65536)
    (tmp_path / "x").write_bytes(data)
    await refused(tmp_path / "x", "qemu-img cannot read it: .*snapshot")


async def test_qcow2_is_not_read_as_raw(tmp_path: Path) -> None:
    """The old trick: a guest writes a header into its raw disk, and names a file of the host."""
    image = create(tmp_path / "x", "-u", "-b", "/etc/passwd", "-F", "raw")
    with pytest.raises(WrongFormat, match="is qcow2, not raw"):
        await inspect(str(image), declared="raw", policy=POLICY)
    above = over("x", "raw").write(tmp_path / "y")
    with pytest.raises(WrongFormat, match="is qcow2, not raw"):
        await inspect(str(above), declared="qcow2", policy=POLICY)


async def test_raw_is_not_read_as_qcow2(tmp_path: Path) -> None:
    image = create(tmp_path / "x", format="raw")
    with pytest.raises(WrongFormat, match="is raw, not qcow2"):
        await inspect(str(image), declared="qcow2", policy=POLICY)
    above = over("x", "qcow2").write(tmp_path / "y")
    with pytest.raises(WrongFormat, match="is raw, not qcow2"):
        await inspect(str(above), declared="qcow2", policy=POLICY)


@pytest.mark.parametrize("format", ["vmdk", "vdi", "vhdx", "vpc", "qed", "qcow", "parallels"])
async def test_other_format_is_refused_by_name(tmp_path: Path, format: str) -> None:
    image = create(tmp_path / "x", format=format)
    await refused(image, f"its format is {format}", declared=None)
    with pytest.raises(WrongFormat, match=f"is {format}, not raw"):
        await inspect(str(image), declared="raw", policy=POLICY)


@pytest.mark.parametrize(
    "start", ["# Disk DescriptorFile\n", "#\n \n   \r\n# x\n", "", "# Disk DescriptorFile\r\n"]
)
async def test_vmdk_text_is_refused_and_its_extents_are_never_opened(
    tmp_path: Path, start: str
) -> None:
    """QEMU opens the extents of a vmdk as soon as it looks at it: a FIFO would hang it."""
    os.mkfifo(tmp_path / "fifo")
    end = "\r\n" if start.endswith("\r\n") else "\n"
    lines = ["version=1", "CID=1", "parentCID=ffffffff", 'createType="monolithicFlat"']
    lines.append('RW 2048 FLAT "fifo" 0')
    (tmp_path / "x").write_text(start + end.join(lines) + end, newline="")
    await refused(tmp_path / "x", "its format is vmdk", declared=None)


@pytest.mark.parametrize("name", ["format", "virtual_size"])
async def test_what_qemu_guesses_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A later QEMU may know a format that we do not; it guesses only when nobody declared one."""
    image = create(tmp_path / "x", format="raw")

    async def newer(node: Node) -> ImageInfo:
        info = await really(node)
        return replace(info, format="new") if name == "format" else replace(info, virtual_size=1)

    really = qemu_img.info
    monkeypatch.setattr(qemu_img, "info", newer)
    await refused(image, "by qemu-img, .* by its header", declared=None)
    await inspect(str(image), declared="raw", policy=POLICY)


async def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    formats: tuple[Format | None, ...] = ("raw", "qcow2", None)
    for declared in formats:
        await refused(tmp_path / "fifo", "it is a FIFO", declared=declared)
        await refused(tmp_path / "folder", "it is a directory", declared=declared)
        await refused(tmp_path / "socket", "it is a socket", declared=declared)
        await refused(Path("/dev/zero"), "it is a character device", declared=declared)


async def test_unreadable_image_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:  # tmp_path lies where only we can look
        os.chmod(folder, 0o755)
        image = Crafted().write(Path(folder, "x"))
        image.chmod(0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            await refused(image, "Permission denied")
        finally:
            if root:
                os.seteuid(0)


async def test_name_that_is_no_name_is_refused(tmp_path: Path) -> None:
    for name in (b"\xff", b"a\0b"):
        path = os.path.join(tmp_path, os.fsdecode(name))
        with pytest.raises(ImageRefused):
            await inspect(path, declared="raw", policy=POLICY)
    with pytest.raises(ImageMissing):
        await inspect("", declared="raw", policy=POLICY)


async def test_missing_qemu_img_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = create(tmp_path / "x")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="qemu-img is not installed"):
        await inspect(str(image), declared="qcow2", policy=POLICY)
