"""Images on the network: judged by their first bytes, and closed to the files of this host."""

from pathlib import Path
from typing import Any

import pytest

from processes import qemu_img
from protocol.errors import ImageRefused, ToolFailed, WrongFormat
from storage.image import Format, Policy, inspect_node
from tests.servers import Server, pattern, qcow2_image, qemu_nbd, raw_image
from tests.storage.headers import MIB, Crafted, over, with_data_file

pytestmark = pytest.mark.tools("qemu-img", "qemu-nbd")
POLICY = Policy()
URL = "nbd+unix:///vol"


def node_of(server: Server) -> dict[str, Any]:
    address = {"type": "unix", "path": str(server.socket)}
    return {"driver": "nbd", "server": address, "export": server.export}


@pytest.mark.parametrize("declared", ["raw", None])
async def test_raw_volume_has_the_size_of_its_export(
    tmp_path: Path, declared: Format | None
) -> None:
    with qemu_nbd(raw_image(tmp_path / "x", 3 * MIB, data=b"boot"), tmp_path) as server:
        node = node_of(server)
        chain = await inspect_node(node, URL, declared=declared, policy=POLICY)
    assert (chain.format, chain.virtual_size, chain.files) == ("raw", 3 * MIB, ())
    assert chain.links[0].path == URL
    assert chain.node() == {"driver": "raw", "file": node}


@pytest.mark.parametrize("declared", ["qcow2", None])
async def test_qcow2_volume_is_read_through_its_header(
    tmp_path: Path, declared: Format | None
) -> None:
    data = pattern(MIB)
    image = qcow2_image(tmp_path / "x", 5 * MIB, data=data)
    with qemu_nbd(image, tmp_path) as server:
        chain = await inspect_node(node_of(server), URL, declared=declared, policy=POLICY)
        assert (chain.format, chain.virtual_size) == ("qcow2", 5 * MIB)
        local = {"driver": "qcow2", "file": {"driver": "file", "filename": str(image)}}
        assert await qemu_img.compare(chain.node(), local)


async def test_large_clusters_are_read_in_full(tmp_path: Path) -> None:
    """The name of the backing file lies beyond the first look."""
    image = over("/etc/passwd", cluster_bits=21).write(tmp_path / "x")
    with (
        qemu_nbd(image, tmp_path) as server,
        pytest.raises(ImageRefused, match="backing file '/etc/passwd'"),
    ):
        await inspect_node(node_of(server), URL, declared="qcow2", policy=POLICY)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (over("/etc/passwd"), "backing file '/etc/passwd' is not in"),
        (over("base"), "is relative, but the image lies in no folder"),
        (over("nbd:unix:/tmp/s"), "the protocol 'nbd'"),
        (over("json:{}"), "is a json: description"),
        (with_data_file("/etc/passwd"), "data file '/etc/passwd' is not in"),
        (Crafted(crypt_method=1), "encrypted"),
        (Crafted(incompatible=2), "corrupt"),
        (Crafted(size=65 << 40, l1_size=1 << 18), "virtual size"),
        (Crafted(version=7), "version 7"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("declared", ["qcow2", None])
async def test_hostile_volume_is_refused_by_name(
    tmp_path: Path, image: Crafted, reason: str, declared: Format | None
) -> None:
    with (
        qemu_nbd(image.write(tmp_path / "x"), tmp_path) as server,
        pytest.raises(ImageRefused, match=reason) as refused,
    ):
        await inspect_node(node_of(server), URL, declared=declared, policy=POLICY)
    assert refused.value.image == URL


async def test_backing_file_under_an_allowed_directory_is_accepted(tmp_path: Path) -> None:
    """But nothing beside it: the folder of a link is no folder of a network image."""
    bases = tmp_path / "bases"
    bases.mkdir()
    base = raw_image(bases / "base", MIB, data=b"base")
    image = over(str(base)).write(tmp_path / "x")
    policy = Policy(allow=(str(bases),))
    with qemu_nbd(image, tmp_path) as server:
        chain = await inspect_node(node_of(server), URL, declared="qcow2", policy=policy)
        assert chain.files == (str(base),)
        only_base = {"driver": "raw", "file": {"driver": "file", "filename": str(base)}}
        assert await qemu_img.compare(chain.node(), only_base)
        over("secret").write(bases / "base2")
        raw_image(bases / "secret", MIB)
        over(str(bases / "base2"), "qcow2").write(image)
        only = Policy(allow=(f"{bases}/none",))
        with pytest.raises(ImageRefused, match="base2' is not in"):
            await inspect_node(node_of(server), URL, declared="qcow2", policy=only)


async def test_content_must_be_what_was_declared(tmp_path: Path) -> None:
    qcow2 = qcow2_image(tmp_path / "q", MIB)
    with qemu_nbd(qcow2, tmp_path) as server:
        node = node_of(server)
        with pytest.raises(WrongFormat, match="is qcow2, not raw"):
            await inspect_node(node, URL, declared="raw", policy=POLICY)
        target = await inspect_node(node, URL, declared="raw", policy=POLICY, role="target")
        assert target.format == "raw"  # what an earlier use left there is overwritten
    with (
        qemu_nbd(raw_image(tmp_path / "r", MIB), tmp_path) as server,
        pytest.raises(WrongFormat, match="is raw, not qcow2"),
    ):
        await inspect_node(node_of(server), URL, declared="qcow2", policy=POLICY)


async def test_other_format_is_refused_by_name(tmp_path: Path) -> None:
    image = raw_image(tmp_path / "x", MIB, data=b"KDMV")
    with (
        qemu_nbd(image, tmp_path) as server,
        pytest.raises(ImageRefused, match="its format is vmdk"),
    ):
        await inspect_node(node_of(server), URL, declared=None, policy=POLICY)


async def test_qcow2_target_stands_alone(tmp_path: Path) -> None:
    base = raw_image(tmp_path / "base", MIB)
    policy = Policy(allow=(str(tmp_path),))
    with qemu_nbd(over(str(base)).write(tmp_path / "x"), tmp_path) as server:
        await inspect_node(node_of(server), URL, declared="qcow2", policy=policy)
        with pytest.raises(ImageRefused, match="a target cannot have"):
            await inspect_node(node_of(server), URL, declared="qcow2", policy=policy, role="target")


async def test_truncated_volume_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "x"
    image.write_bytes(Crafted().build()[:4096])
    with qemu_nbd(image, tmp_path) as server, pytest.raises(ImageRefused, match="truncated"):
        await inspect_node(node_of(server), URL, declared="qcow2", policy=POLICY)


async def test_volume_that_ends_before_its_tables_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "x"
    image.write_bytes(Crafted().build()[: 2 * 65536])
    with qemu_nbd(image, tmp_path) as server, pytest.raises(ImageRefused, match="truncated"):
        await inspect_node(node_of(server), URL, declared="qcow2", policy=POLICY)


async def test_server_that_is_gone_is_no_fault_of_the_image(tmp_path: Path) -> None:
    with qemu_nbd(raw_image(tmp_path / "x", MIB), tmp_path) as server:
        server.kill()
        with pytest.raises(ToolFailed):
            await inspect_node(node_of(server), URL, declared="raw", policy=POLICY)
