"""Images of a real Ceph cluster: attached by their urls, copied to, and given back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadParameter, ManagedVolumeHelperFailed
from tests.ceph_cluster import POOL, CephCluster
from tests.host.verbs.a_host import AHost
from tests.host.verbs.test_managed_volume import attach, copied, strict, vendor
from tests.managed import left_in, new_id
from tests.servers import MIB, pattern, until

__all__ = ["strict", "vendor"]

pytestmark = pytest.mark.tools("ceph-mon", "ceph-osd", "ceph-mgr", "rbd", "qemu-nbd", "nbdcopy")

SIZE = 2 * MIB


@pytest.fixture
def image(ceph_cluster: CephCluster) -> Iterator[str]:
    """A new image, of a user who may use it and nothing else of the cluster."""
    name = f"volume-{new_id()}"
    ceph_cluster.tool("rbd", "create", f"{POOL}/{name}", "--size", f"{SIZE}B")
    ceph_cluster.tool("ceph", "auth", "get-or-create", f"client.{name}", "mon", "profile rbd",
                      "osd", f"profile rbd pool={POOL}")  # fmt: skip
    yield name
    ceph_cluster.tool("ceph", "auth", "rm", f"client.{name}")
    ceph_cluster.tool("rbd", "rm", "--no-progress", f"{POOL}/{name}")


def connection(cluster: CephCluster, image: str, **other: Any) -> dict[str, Any]:
    """As an adapter tells it."""
    key = cluster.tool("ceph", "auth", "print-key", f"client.{image}")
    data = {
        "name": f"{POOL}/{image}",
        "hosts": ["127.0.0.1"],
        "ports": [cluster.mon_host.rpartition(":")[2].strip("]")],
        "auth_enabled": True,
        "auth_username": image,
        "keyring": f"[client.{image}]\n\tkey = {key}\n",
        **other,
    }
    return {"driver_volume_type": "rbd", "data": data}


async def test_an_image_is_copied_to_while_it_is_attached(
    strict: AHost, ceph_cluster: CephCluster, image: str, tmp_path: Path
) -> None:
    told = connection(ceph_cluster, image)
    made = await attach(strict, told)
    assert made["path"].startswith(f"rbd:{POOL}/{image}:id={image}:conf=")
    assert made["managed_path"] is None
    [info] = await strict.call("ManagedVolume.volumes_info")
    assert info["exists"] is True
    assert info["connection_info"]["data"]["keyring"] == "***"
    done = await copied(strict, made["path"], SIZE)
    assert done["status"] == "done", done
    await strict.call("ManagedVolume.detach_volume", vol_id=made["vol_id"])
    assert left_in(tmp_path / "run") == []
    with pytest.raises(BadParameter, match="rbd is not allowed"):
        await copied(strict, made["path"], SIZE)
    content = tmp_path / "content"
    ceph_cluster.tool("rbd", "export", "--no-progress", f"{POOL}/{image}", content)
    assert content.read_bytes() == pattern(SIZE)
    await until(lambda: not ceph_cluster.rbd("status", f"{POOL}/{image}")["watchers"])


@pytest.mark.parametrize("words", ["hosts", "mon_host"])
async def test_a_wrong_key_is_told_and_leaves_nothing(
    strict: AHost, ceph_cluster: CephCluster, image: str, tmp_path: Path, words: str
) -> None:
    more = {"mon_host": ceph_cluster.mon_host} if words == "mon_host" else {}
    wrong = "AQBHCbtT6APDHhAAD5W00cBchwkQjh3dkKsyPw=="
    told = connection(ceph_cluster, image, **more, keyring=wrong)
    with pytest.raises(
        ManagedVolumeHelperFailed, match=r"cannot be opened: error connecting|could not be opened"
    ):
        await attach(strict, told)
    assert left_in(tmp_path / "run") == []
    assert await strict.call("ManagedVolume.volumes_info") == []
    vol_id = new_id()
    made = await attach(strict, connection(ceph_cluster, image, **more), vol_id)
    await strict.call("ManagedVolume.detach_volume", vol_id=made["vol_id"])
    assert left_in(tmp_path / "run") == []


async def test_an_image_that_is_not_there_is_told(
    strict: AHost, ceph_cluster: CephCluster, image: str, tmp_path: Path
) -> None:
    told = connection(ceph_cluster, image, name=f"{POOL}/another")
    with pytest.raises(ManagedVolumeHelperFailed, match="No such file or directory"):
        await attach(strict, told)
    assert left_in(tmp_path / "run") == []
