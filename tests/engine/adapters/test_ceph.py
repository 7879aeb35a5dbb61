"""The `ceph` adapter: rights on one image, clones that died half-way, clients of unknown users."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from engine.adapters.ceph import CephAdapter
from engine.adapters.connections import key_of
from processes.ceph import Access
from processes.rbd import Rbd
from protocol.errors import (
    ManagedStorageFailed,
    ManagedVolumeExists,
    ManagedVolumeInUse,
    NoSuchManagedVolume,
)
from protocol.managed import GIB, ConnectionInfo, Connector
from tests.ceph_cluster import POOL, CephCluster
from tests.servers import until

pytestmark = pytest.mark.tools("ceph-mon", "ceph-mgr", "ceph-osd", "ceph", "rbd", "qemu-io")

HOST1, HOST2 = Connector("host1"), Connector("host2")


class Volume:
    """Ids of volumes that only this test has, and what a client of the cluster sees of them."""

    def __init__(self, cluster: CephCluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.access = Access(str(cluster.conf), "admin", str(cluster.keyring))
        self.adapter = CephAdapter(POOL, self.access)
        self.rbd = Rbd(self.access, POOL)
        self.id = str(uuid4())
        self.clone = str(uuid4())

    @property
    def image(self) -> str:
        return f"volume-{self.id}"

    def conf(self, info: ConnectionInfo, timeout: int = 3) -> Path:
        conf, keyring = self.folder / "client.conf", self.folder / "client.keyring"
        keyring.write_text(info.data["keyring"])
        conf.write_text(
            f"[global]\nmon host = {info.data['mon_host']}\nkeyring = {keyring}\n"
            f"client mount timeout = {timeout}\n"
        )
        return conf

    def watchers(self) -> Any:
        return self.cluster.rbd("status", f"{POOL}/{self.image}")["watchers"]

    def reads(self, info: ConnectionInfo, image: str) -> bool:
        """Does the user of a connection get at an image?"""
        name = f"rbd:{POOL}/{image}:id={info.data['auth_username']}:conf={self.conf(info)}"
        argv = ["qemu-io", "-f", "raw", "-c", "read 0 4k", name]
        return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.fixture
def volume(ceph_cluster: CephCluster, tmp_path: Path) -> Iterator[Volume]:
    found = Volume(ceph_cluster, tmp_path)
    yield found
    for name in (found.id, found.clone):
        left = [one for one in ceph_cluster.rbd("ls", POOL) if name in one]
        assert left == []
    entities = [one["entity"] for one in ceph_cluster.ceph("auth", "ls")["auth_dump"]]
    assert [one for one in entities if found.id in one] == []


async def test_the_user_of_a_connection_gets_at_no_other_image(volume: Volume) -> None:
    adapter = volume.adapter
    await adapter.create_volume(volume.id, 1)
    await adapter.create_volume(volume.clone, 1)
    info = await adapter.connect_volume(volume.id, HOST1)
    assert volume.reads(info, volume.image)
    assert not volume.reads(info, f"volume-{volume.clone}")
    argv = ["rbd", "--conf", str(volume.conf(info)), "--id", info.data["auth_username"]]
    for command in (["snap", "create", f"{POOL}/volume-{volume.clone}@x"], ["ls", POOL]):
        done = subprocess.run([*argv, *command], capture_output=True, timeout=60, check=False)
        assert done.returncode != 0
    await adapter.disconnect_volume(volume.id, None)
    await adapter.delete_volume(volume.id)
    await adapter.delete_volume(volume.clone)


async def test_the_connection_is_in_the_form_of_os_brick(volume: Volume) -> None:
    await volume.adapter.create_volume(volume.id, 1)
    info = await volume.adapter.connect_volume(volume.id, HOST1)
    assert (info.driver_volume_type, info.adapter) == ("rbd", None)
    data = info.data
    port = volume.cluster.mon_host.rpartition(":")[2].removesuffix("]")
    assert (data["name"], data["hosts"], data["ports"]) == (
        f"{POOL}/{volume.image}", ["127.0.0.1"], [port],
    )  # fmt: skip
    assert data["mon_host"] == volume.cluster.mon_host
    assert data["auth_enabled"] is True
    assert data["keyring"].startswith(f"[client.{data['auth_username']}]\n")
    await volume.adapter.disconnect_volume(volume.id, None)
    await volume.adapter.delete_volume(volume.id)


async def test_a_connected_volume_grows_under_its_host(volume: Volume) -> None:
    await volume.adapter.create_volume(volume.id, 1)
    info = await volume.adapter.connect_volume(volume.id, HOST1)
    await volume.adapter.extend_volume(volume.id, 2)
    assert (await volume.adapter.volume_info(volume.id)).size == 2 * GIB
    assert volume.reads(info, volume.image)
    await volume.adapter.disconnect_volume(volume.id, None)
    await volume.adapter.delete_volume(volume.id)


@pytest.mark.parametrize("noted", [False, True])
async def test_a_clone_that_died_half_way_is_made_whole(volume: Volume, noted: bool) -> None:
    """Until then nobody gets at it: its host could not read what is still in its parent."""
    adapter, rbd = volume.adapter, volume.rbd
    await adapter.create_volume(volume.id, 1)
    await rbd.create_snapshot(volume.image, f"clone.{volume.clone}")
    await rbd.clone(volume.image, f"clone.{volume.clone}", f"volume-{volume.clone}")
    if noted:
        await rbd.note(f"volume-{volume.clone}", "leasehold.origin", volume.id)
    with pytest.raises(ManagedVolumeInUse, match="still being made"):
        await adapter.connect_volume(volume.clone, HOST1)
    assert (await adapter.volume_info(volume.id)).snapshots == []
    await adapter.clone_volume(volume.id, volume.clone)
    info = await rbd.info(f"volume-{volume.clone}")
    assert info is not None
    assert info.parent is None
    assert await rbd.snapshots(volume.image) == []
    await adapter.delete_volume(volume.id)
    await adapter.delete_volume(volume.clone)


@pytest.mark.parametrize("snapshot", [False, True])
async def test_a_clone_that_died_before_it_had_a_parent_is_made_anew(
    volume: Volume, snapshot: bool
) -> None:
    """What has been written to since, or was never begun, is somebody's and is left as it is."""
    adapter, rbd, image = volume.adapter, volume.rbd, f"volume-{volume.clone}"
    await adapter.create_volume(volume.id, 1)
    await adapter.create_snapshot(volume.id, "s")

    async def make() -> None:
        if snapshot:
            await adapter.create_volume_from_snapshot(volume.id, "s", volume.clone)
        else:
            await adapter.clone_volume(volume.id, volume.clone)

    await rbd.create(image, 1)
    with pytest.raises(ManagedVolumeExists):
        await make()
    if snapshot:
        await rbd.note(volume.image, f"leasehold-making.{volume.clone}", f"{volume.id}@s")
    else:
        await rbd.create_snapshot(volume.image, f"clone.{volume.clone}")
    spec = f"{POOL}/{image}"
    volume.cluster.tool("rbd", "bench", spec, "--io-type", "write", "--io-total", "4K")
    with pytest.raises(ManagedVolumeExists):
        await make()
    await rbd.remove(image)
    await rbd.create(image, 1)
    await make()
    assert (await rbd.notes(image))["leasehold.origin"].startswith(volume.id)
    assert await rbd.notes(volume.image) == {}
    assert await rbd.snapshots(volume.image) == ["s"]
    await adapter.remove_snapshot(volume.id, "s")
    await adapter.delete_volume(volume.id)
    await adapter.delete_volume(volume.clone)


async def test_a_clone_that_died_half_way_can_be_removed_and_then_its_source(
    volume: Volume,
) -> None:
    adapter, rbd = volume.adapter, volume.rbd
    await adapter.create_volume(volume.id, 1)
    await rbd.create_snapshot(volume.image, f"clone.{volume.clone}")
    await rbd.clone(volume.image, f"clone.{volume.clone}", f"volume-{volume.clone}")
    with pytest.raises(ManagedVolumeInUse, match="clones"):
        await adapter.delete_volume(volume.id)
    await adapter.delete_volume(volume.clone)
    await adapter.delete_volume(volume.id)


async def test_what_was_begun_from_one_volume_is_not_finished_from_another(volume: Volume) -> None:
    """Killed before it could note where it comes from; what it had then is not what is wanted."""
    adapter, rbd, other = volume.adapter, volume.rbd, str(uuid4())
    await adapter.create_volume(volume.id, 1)
    await adapter.create_volume(other, 1)
    await rbd.create_snapshot(volume.image, f"clone.{volume.clone}")
    await rbd.clone(volume.image, f"clone.{volume.clone}", f"volume-{volume.clone}")
    with pytest.raises(ManagedVolumeExists):
        await adapter.clone_volume(other, volume.clone)
    await adapter.create_snapshot(other, "s")
    with pytest.raises(ManagedVolumeExists):
        await adapter.create_volume_from_snapshot(other, "s", volume.clone)
    await adapter.delete_volume(volume.clone)
    await adapter.clone_volume(other, volume.clone)
    await adapter.remove_snapshot(other, "s")
    for name in (volume.clone, other, volume.id):
        await adapter.delete_volume(name)


async def test_a_clone_that_is_given_up_half_way_leaves_no_snapshot(volume: Volume) -> None:
    adapter, rbd = volume.adapter, volume.rbd
    await adapter.create_volume(volume.id, 1)
    await rbd.create_snapshot(volume.image, f"clone.{volume.clone}")
    await rbd.clone(volume.image, f"clone.{volume.clone}", f"volume-{volume.clone}")
    await adapter.delete_volume(volume.clone)
    assert await rbd.snapshots(volume.image) == []
    await adapter.delete_volume(volume.id)


@pytest.mark.parametrize("which", [HOST1, None], ids=["one host", "all"])
async def test_who_was_let_in_without_a_note_is_shut_out_too(
    volume: Volume, which: Connector | None
) -> None:
    """As when one command connects it while another disconnects it."""
    adapter = volume.adapter
    await adapter.create_volume(volume.id, 1)
    info = await adapter.connect_volume(volume.id, HOST1)
    await volume.rbd.remove_note(volume.image, f"leasehold.{volume.id}.{key_of(HOST1)}")
    assert (await adapter.volume_info(volume.id)).hosts == []
    await adapter.disconnect_volume(volume.id, HOST2)  # it is not the one
    assert volume.reads(info, volume.image)
    await adapter.disconnect_volume(volume.id, which)
    assert not volume.reads(info, volume.image)
    await adapter.delete_volume(volume.id)


async def test_a_volume_that_its_host_has_open_grows_and_has_snapshots(volume: Volume) -> None:
    """The one who has it open does that, with the rights of its user."""
    adapter = volume.adapter
    await adapter.create_volume(volume.id, 1)
    info = await adapter.connect_volume(volume.id, HOST1)
    user = info.data["auth_username"]
    name = f"rbd:{POOL}/{volume.image}:id={user}:conf={volume.conf(info, 60)}"
    argv = ["qemu-io", "-f", "raw", "-c", "write 0 4k", "-c", "sleep 1000000", name]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as client:
        try:
            await until(lambda: volume.cluster.rbd("lock", "ls", f"{POOL}/{volume.image}"))
            await adapter.extend_volume(volume.id, 2)
            await adapter.create_snapshot(volume.id, "s")
            await adapter.clone_volume(volume.id, volume.clone)
            await adapter.remove_snapshot(volume.id, "s")
            assert client.poll() is None
        finally:
            client.kill()
    assert (await adapter.volume_info(volume.clone)).size == 2 * GIB
    await adapter.disconnect_volume(volume.id, None)
    await adapter.delete_volume(volume.id)
    await adapter.delete_volume(volume.clone)


async def test_a_clone_is_connected_for_nobody(volume: Volume) -> None:
    """It begins with the notes of its parent, which are about another volume."""
    adapter = volume.adapter
    await adapter.create_volume(volume.id, 1)
    await adapter.connect_volume(volume.id, HOST1)
    await adapter.clone_volume(volume.id, volume.clone)
    assert (await adapter.volume_info(volume.clone)).hosts == []
    await adapter.delete_volume(volume.clone)
    await adapter.disconnect_volume(volume.id, None)
    await adapter.delete_volume(volume.id)


async def test_whoever_has_it_open_is_in_its_way_and_is_cut_off_with_all_others(
    volume: Volume,
) -> None:
    """A client that no connection was made for, with rights of its own."""
    adapter = volume.adapter
    await adapter.create_volume(volume.id, 1)
    name = f"rbd:{POOL}/{volume.image}:conf={volume.cluster.conf}"
    argv = ["qemu-io", "-f", "raw", "-c", "write 0 4k", "-c", "sleep 1000000", name]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as client:
        await until(volume.watchers)
        [address] = [one["address"] for one in volume.watchers()]
        with pytest.raises(ManagedVolumeInUse, match=address):
            await adapter.delete_volume(volume.id)
        await adapter.disconnect_volume(volume.id, HOST1)  # it is not the one
        assert [one["address"] for one in volume.watchers()] == [address]
        await adapter.disconnect_volume(volume.id, None)
        assert volume.watchers() == []
        blocked = json.dumps(volume.cluster.ceph("osd", "dump")["blocklist"])
        assert address in blocked
        client.kill()
    await adapter.delete_volume(volume.id)


async def test_rights_that_were_changed_are_set_right(volume: Volume) -> None:
    adapter = volume.adapter
    await adapter.create_volume(volume.id, 1)
    info = await adapter.connect_volume(volume.id, HOST1)
    user = f"client.{info.data['auth_username']}"
    volume.cluster.ceph("auth", "caps", user, "mon", "allow r", "osd", "allow *")
    again = await adapter.connect_volume(volume.id, HOST1)
    assert again.data == info.data
    caps = volume.cluster.ceph("auth", "get", user)[0]["caps"]
    assert caps["mon"] == "profile rbd"
    assert "allow *" not in caps["osd"]
    await adapter.disconnect_volume(volume.id, None)
    await adapter.delete_volume(volume.id)


async def test_a_pool_that_is_not_there_is_told(volume: Volume) -> None:
    with pytest.raises(ManagedStorageFailed, match="no pool nowhere"):
        await CephAdapter("nowhere", volume.access).storage_stats()


HEADER, ID, LISTED = "header", "id", "listed"


@pytest.mark.sample(3)
@pytest.mark.parametrize("gone", [(HEADER,), (HEADER, ID), (HEADER, LISTED), (ID,)])
@pytest.mark.parametrize("again", ["create", "clone", "delete"])
async def test_what_a_killed_command_left_of_an_image_is_no_obstacle(
    volume: Volume, gone: tuple[str, ...], again: str
) -> None:
    adapter, cluster = volume.adapter, volume.cluster
    await adapter.create_volume(volume.id, 1)
    await adapter.create_volume(volume.clone, 1)
    found = await volume.rbd.info(volume.image)
    assert found is not None
    if HEADER in gone:
        cluster.tool("rados", "--pool", POOL, "rm", f"rbd_header.{found.id}")
    if ID in gone:
        cluster.tool("rados", "--pool", POOL, "rm", f"rbd_id.{volume.image}")
    if LISTED in gone:
        for key in (f"name_{volume.image}", f"id_{found.id}"):
            cluster.tool("rados", "--pool", POOL, "rmomapkey", "rbd_directory", key)
    if again == "create":
        assert (await adapter.create_volume(volume.id, 1)).created
    elif again == "clone":
        await adapter.clone_volume(volume.clone, volume.id)
    else:
        with suppress(NoSuchManagedVolume):
            await adapter.delete_volume(volume.id)
        with pytest.raises(NoSuchManagedVolume):
            await adapter.delete_volume(volume.id)
        assert (await adapter.create_volume(volume.id, 1)).created
    await adapter.delete_volume(volume.id)
    await adapter.delete_volume(volume.clone)
    left = cluster.tool("rados", "--pool", POOL, "ls").split()
    assert [name for name in left if volume.id in name] == []


async def test_a_client_that_was_killed_does_not_keep_a_volume(volume: Volume) -> None:
    """The cluster takes it for one that has the image open for half a minute more."""
    await volume.adapter.create_volume(volume.id, 1)
    argv = ["rbd", "bench", "--io-type", "write", "--io-size", "4K", "--io-total", "1G"]
    argv += ["--io-threads", "1", f"{POOL}/{volume.image}"]
    own = {**os.environ, "CEPH_CONF": str(volume.cluster.conf)}
    with subprocess.Popen(argv, env=own, stdout=subprocess.DEVNULL) as client:
        try:
            await until(volume.watchers)
            with pytest.raises(ManagedVolumeInUse, match="has it open"):
                await volume.adapter.delete_volume(volume.id)
        finally:
            client.kill()
    assert volume.watchers()
    await volume.adapter.delete_volume(volume.id)
