"""ManagedVolume.*, and copies onto what is attached."""

import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from host.config import Config, Endpoints, Folders, Managed, Storage
from host.wire.call import Call, Peer
from protocol.errors import (
    BadParameter,
    ManagedVolumeAlreadyAttached,
    ManagedVolumeConnectionMismatch,
    ManagedVolumeHelperFailed,
    ManagedVolumeInUse,
    ManagedVolumeUnsupportedDevice,
    UnsupportedOperation,
)
from protocol.jsonrpc import Forbidden
from tests.host.verbs.a_host import AHost, a_host, external
from tests.managed import ADAPTER, SD, Scripted, connection, left_in, loop_device, new_id, scripted
from tests.servers import MIB, nbdkit, pattern, qemu_nbd, raw_image
from tests.tgt import tgt

NO_DOMAIN = "00000000-0000-0000-0000-000000000000"
FILE = {"driver_volume_type": "file"}
NBD = pytest.mark.tools("qemu-img", "qemu-nbd", "nbdcopy", "nbdinfo")


@pytest.fixture
def vendor(tmp_path: Path) -> Scripted:
    return scripted(tmp_path / "vendor")


@pytest.fixture
async def strict(tmp_path: Path, vendor: Scripted) -> AsyncIterator[AHost]:
    """A host that allows no url and no device, and has the helper of a vendor."""
    config = Config(
        folders=Folders(state=str(tmp_path / "state")),
        endpoints=Endpoints(schemes=("path",), directories=(str(tmp_path / "disks"),), devices=()),
        storage=Storage(directories=(str(tmp_path / "mnt"),)),
        managed=Managed(helpers=(vendor.helpers,), run=str(tmp_path / "run"), device_time=5.0),
    )
    async with a_host(tmp_path, config) as made:
        yield made


async def attach(host: AHost, told: dict[str, Any], vol_id: str | None = None) -> dict[str, Any]:
    wanted = {"vol_id": vol_id or new_id(), "sd_id": SD, "connection_info": told}
    made: dict[str, Any] = await host.call("ManagedVolume.attach_volume", **wanted)
    return made


async def copied(host: AHost, url: str, size: int = 2 * MIB) -> dict[str, Any]:
    """Copy a pattern to what a client names; how the job ended."""
    if not host.mount.exists():
        await host.domain(leases=8)
    raw_image(host.disks / "source", size, data=pattern(size))
    job_id = await host.lease()
    ends = {"source": external(host.disks / "source"), "destination": external(url, job_id)}
    assert await host.call("SDM.copy_data", job_id=job_id, **ends) is True
    return await host.ended(job_id)


# --- shapes and codes -------------------------------------------------------------------------


async def test_the_answers_have_the_shapes_that_clients_know(
    strict: AHost, vendor: Scripted, tmp_path: Path
) -> None:
    vol_id, told = new_id(), connection("rbd", name="pool/disk", auth_password="TOPSECRET")
    with loop_device(tmp_path) as device:
        vendor.attaches(device, type="block")
        made = await attach(strict, told, vol_id)
        link = f"{tmp_path}/run/{SD}_{vol_id}"
        assert made == {
            "vol_id": vol_id,
            "path": str(device),
            "managed_path": link,
            "attachment": {"path": str(device), "type": "block"},
        }
        [info] = await strict.call("ManagedVolume.volumes_info")
        shown = {**told, "data": {"name": "pool/disk", "auth_password": "***"}}
        assert info == {**made, "sd_id": SD, "connection_info": shown, "exists": True}
        ids = [vol_id.upper(), new_id()]
        assert await strict.call("ManagedVolume.volumes_info", vol_ids=ids) == [info]
        assert await strict.call("ManagedVolume.volumes_info", vol_ids=[new_id()]) == []
        assert await strict.call("ManagedVolume.volumes_info", vol_ids=None) == [info]
        detach = {"vol_id": vol_id, "sd_id": SD}
        assert await strict.call("ManagedVolume.detach_volume", **detach) is True
        assert await strict.call("ManagedVolume.detach_volume", **detach) is True
    assert await strict.call("ManagedVolume.volumes_info", vol_ids=[]) == []
    assert left_in(tmp_path / "run") == []


async def test_without_a_domain_the_link_has_the_id_of_none(
    strict: AHost, vendor: Scripted, tmp_path: Path
) -> None:
    vol_id = new_id()
    with loop_device(tmp_path) as device:
        vendor.attaches(device)
        told = {"vol_id": vol_id, "connection_info": connection()}
        made = await strict.call("ManagedVolume.attach_volume", **told)
        assert made["managed_path"] == f"{tmp_path}/run/{NO_DOMAIN}_{vol_id}"
        await strict.call("ManagedVolume.detach_volume", vol_id=vol_id)


async def test_the_codes_are_those_that_clients_know(
    strict: AHost, vendor: Scripted, tmp_path: Path
) -> None:
    vol_id = new_id()
    with pytest.raises(UnsupportedOperation) as unsupported:
        await attach(strict, connection("nonsense"))
    vendor.script("attach", "sys.exit('no')")
    with pytest.raises(ManagedVolumeHelperFailed) as failed:
        await attach(strict, connection())
    vendor.attaches("/dev/sda")
    with pytest.raises(ManagedVolumeUnsupportedDevice) as device_of_one_path:
        await attach(strict, connection("iscsi"))
    with loop_device(tmp_path) as device:
        vendor.attaches(device)
        await attach(strict, connection(), vol_id)
        with pytest.raises(ManagedVolumeAlreadyAttached) as attached:
            await attach(strict, connection(), vol_id)
        with pytest.raises(ManagedVolumeConnectionMismatch) as mismatch:
            await attach(strict, connection(other=True), vol_id)
        await strict.call("ManagedVolume.detach_volume", vol_id=vol_id)
    errors = (unsupported, failed, attached, device_of_one_path, mismatch)
    assert [one.value.code for one in errors] == [2009, 926, 927, 928, 929]


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"driver_volume_type": "file"},
        {"driver_volume_type": 7, "data": {}},
        {"driver_volume_type": "file", "data": []},
        {"driver_volume_type": "file", "data": {}, "adapter": 7},
        [],
        None,
    ],
    ids=str,
)
async def test_a_connection_that_is_none_is_a_bad_parameter(strict: AHost, told: Any) -> None:
    with pytest.raises(BadParameter) as caught:
        await attach(strict, told)
    assert "connection_info" in str(caught.value)


async def test_a_monitor_sees_volumes_but_changes_none(
    strict: AHost, vendor: Scripted, tmp_path: Path
) -> None:
    with loop_device(tmp_path) as device:
        vendor.attaches(device)
        made = await attach(strict, connection())
        strict.role = "monitor"
        assert len(await strict.call("ManagedVolume.volumes_info")) == 1
        for method, params in (
            ("attach_volume", {"vol_id": new_id(), "connection_info": connection()}),
            ("detach_volume", {"vol_id": made["vol_id"]}),
        ):
            call = Call(f"ManagedVolume.{method}", params, "flow", Peer("monitor", "test"))
            with pytest.raises(Forbidden):
                await strict.dispatch(call)
        strict.role = "engine"
        await strict.call("ManagedVolume.detach_volume", vol_id=made["vol_id"])


async def test_capabilities_tell_what_can_be_attached(strict: AHost) -> None:
    found = await strict.call("Host.getCapabilities")
    assert {"local", "file"} <= set(found["drivers"])
    connector = found["connector_info"]
    assert connector["uuid"] == strict.host.hardware_id
    assert connector["initiator"].startswith("iqn.")
    assert {"host", "ip", "multipath", "platform", "os_type"} <= connector.keys()
    assert (await strict.call("Host.getCapabilities"))["connector_info"] == connector


# --- copies -----------------------------------------------------------------------------------


@pytest.mark.tools("qemu-nbd", "qemu-img", "nbdcopy")
async def test_a_file_of_a_server_is_copied_to_while_it_is_attached(
    strict: AHost, tmp_path: Path
) -> None:
    disk = raw_image(tmp_path / "volume", 2 * MIB)
    with qemu_nbd(disk, tmp_path) as server:
        with pytest.raises(BadParameter, match="nbd\\+unix is not allowed"):
            await copied(strict, server.url)
        made = await attach(strict, {**FILE, "data": {"url": server.url}})
        assert made["path"] == server.url
        done = await copied(strict, made["path"])
        assert done["status"] == "done", done
        await strict.call("ManagedVolume.detach_volume", vol_id=made["vol_id"])
        with pytest.raises(BadParameter, match="nbd\\+unix is not allowed"):
            await copied(strict, server.url)
    assert disk.read_bytes() == pattern(2 * MIB)


@pytest.mark.tools("qemu-img")
@pytest.mark.parametrize("name", ["path", "managed_path"])
async def test_a_device_is_copied_to_while_it_is_attached(
    strict: AHost, vendor: Scripted, tmp_path: Path, name: str
) -> None:
    with loop_device(tmp_path, 2 * MIB) as device:
        with pytest.raises(BadParameter):
            await copied(strict, str(device))
        vendor.attaches(device)
        made = await attach(strict, connection())
        done = await copied(strict, made[name])
        assert done["status"] == "done", done
        assert device.read_bytes() == pattern(2 * MIB)
        await strict.call("ManagedVolume.detach_volume", vol_id=made["vol_id"])
        with pytest.raises(BadParameter):
            await copied(strict, made[name])
        os.symlink(device, made["managed_path"])  # a link that nobody has removed, say
        with pytest.raises(BadParameter, match="not attached"):
            await copied(strict, made["managed_path"])


@pytest.mark.tools("tgtd", "tgtadm", "qemu-img", "qemu-nbd", "nbdcopy")
@pytest.mark.parametrize("password", [None, "a secret of CHAP"])
async def test_a_unit_of_a_target_is_copied_to_as_this_host(
    strict: AHost, tmp_path: Path, password: str | None
) -> None:
    initiator = (await strict.call("Host.getCapabilities"))["connector_info"]["initiator"]
    with tgt(tmp_path, 2 * MIB) as target:
        told = target.connection("joe", password)
        with pytest.raises(ManagedVolumeHelperFailed, match="Failed to log in"):
            await attach(strict, told)
        target.let_in(initiator)
        if password is not None:
            target.ask_for("joe", password)
        made = await attach(strict, told)
        done = await copied(strict, made["path"])
        assert done["status"] == "done", done
        assert target.disk.read_bytes() == pattern(2 * MIB)
        await strict.call("ManagedVolume.detach_volume", vol_id=made["vol_id"])
        with pytest.raises(BadParameter, match="iscsi is not allowed"):
            await copied(strict, made["path"])
        assert target.sessions == 0
    assert left_in(tmp_path / "run") == []


@pytest.mark.tools("nbdkit", "nbdcopy")
async def test_a_volume_is_not_detached_while_a_job_uses_it(strict: AHost, tmp_path: Path) -> None:
    disk = raw_image(tmp_path / "volume", 2 * MIB)
    slow = {"filters": ["delay"], "settings": ["wdelay=300ms"]}
    with nbdkit(tmp_path, ["file", str(disk)], **slow) as server:  # type: ignore[arg-type]
        made = await attach(strict, {**FILE, "data": {"url": server.url}})
        await strict.domain()
        raw_image(strict.disks / "source", 2 * MIB, data=pattern(2 * MIB))
        ids = [await strict.lease(), await strict.lease()]
        for job_id in ids:
            ends = {
                "source": external(strict.disks / "source"),
                "destination": external(made["path"], job_id),
            }
            await strict.call("SDM.copy_data", job_id=job_id, **ends)
        vol_id = made["vol_id"]
        for job_id in ids:
            with pytest.raises(ManagedVolumeInUse):
                await strict.call("ManagedVolume.detach_volume", vol_id=vol_id)
            await strict.call("Job.abort", job_id=job_id)
            assert (await strict.ended(job_id))["status"] == "aborted"
        assert await strict.call("ManagedVolume.detach_volume", vol_id=vol_id) is True


@NBD
@pytest.mark.parametrize("end", ["source", "destination"])
async def test_a_volume_is_not_detached_before_a_job_that_names_it(
    strict: AHost, tmp_path: Path, end: str
) -> None:
    with qemu_nbd(raw_image(tmp_path / "volume", MIB), tmp_path) as server:
        made = await attach(strict, {**FILE, "data": {"url": server.url}})
        await strict.domain()
        raw_image(strict.disks / "other", MIB)
        names = {"source": strict.disks / "other", "destination": strict.disks / "other"}
        names |= {end: made["path"]}
        job_id = await strict.lease()
        ends = {
            "source": external(names["source"]),
            "destination": external(names["destination"], job_id),
        }
        strict.host.agent.queue.paused = True
        await strict.call("SDM.copy_data", job_id=job_id, **ends)
        with pytest.raises(ManagedVolumeInUse):
            await strict.call("ManagedVolume.detach_volume", vol_id=made["vol_id"])
        strict.host.agent.queue.paused = False
        assert (await strict.ended(job_id))["status"] == "done"
        await strict.call("ManagedVolume.detach_volume", vol_id=made["vol_id"])


@NBD
async def test_a_volume_is_not_detached_while_a_call_that_names_it_is_checked(
    strict: AHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, reached, go_on = strict.host.domains.load, trio.Event(), trio.Event()

    async def slow(sd_id: str) -> Any:
        reached.set()
        await go_on.wait()
        return await load(sd_id)

    with qemu_nbd(raw_image(tmp_path / "volume", MIB), tmp_path) as server:
        made = await attach(strict, {**FILE, "data": {"url": server.url}})
        await strict.domain()
        raw_image(strict.disks / "source", MIB)
        job_id = await strict.lease()
        ends = {
            "source": external(strict.disks / "source"),
            "destination": external(made["path"], job_id),
        }
        monkeypatch.setattr(strict.host.domains, "load", slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(strict.call, "SDM.copy_data", job_id=job_id, **ends))
            await reached.wait()
            with pytest.raises(ManagedVolumeInUse):
                await strict.call("ManagedVolume.detach_volume", vol_id=made["vol_id"])
            go_on.set()
        assert (await strict.ended(job_id))["status"] == "done"
        await strict.call("ManagedVolume.detach_volume", vol_id=made["vol_id"])


async def test_an_adapter_that_is_ours_needs_no_folder(strict: AHost, tmp_path: Path) -> None:
    with qemu_nbd(raw_image(tmp_path / "volume", MIB), tmp_path) as server:
        told = {**FILE, "adapter": "file", "data": {"url": server.url}}
        made = await attach(strict, told)
        assert made["path"] == server.url
        await strict.call("ManagedVolume.detach_volume", vol_id=made["vol_id"])


async def test_a_vendor_may_replace_our_helper(
    strict: AHost, vendor: Scripted, tmp_path: Path
) -> None:
    vendor.program.rename(vendor.program.with_name("managedvolume-helper-file"))
    vendor.script("attach", "sys.exit('I am the one')")
    with pytest.raises(ManagedVolumeHelperFailed, match="I am the one"):
        await attach(strict, {**FILE, "adapter": "file", "data": {}})
    with pytest.raises(ManagedVolumeHelperFailed, match="has no url"):
        await attach(strict, {**FILE, "data": {}})
    assert ADAPTER not in os.listdir(vendor.helpers)
