"""The `tgt` adapter: targets that come and go, beside those of others, in a daemon that forgets."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.adapters.connections import Connection, key_of
from engine.adapters.tgt import TgtAdapter
from processes.tgtadm import Tgtd
from protocol.errors import BadParameter, ManagedVolumeInUse, ToolStalled
from protocol.managed import ConnectionInfo, Connector
from tests.conftest import SEARCH_PATH
from tests.engine.adapters.sites import HOST1, HOST2, tgt_adapter
from tests.tgt_server import TgtServer, tgt_server

pytestmark = pytest.mark.tools("tgtd", "tgtadm", "iscsi-inq")


@pytest.fixture
def server() -> Iterator[TgtServer]:
    with tgt_server() as found:
        yield found


def page(info: ConnectionInfo, initiator: str | None) -> str | None:
    """The names of a logical unit (VPD page 0x83), as a host is told; None: it is not let in."""
    data = info.data
    url = f"iscsi://{data['target_portal']}/{data['target_iqn']}/{data['target_lun']}"
    argv = ["iscsi-inq", "-i", str(initiator), "-e", "1", "-c", "131", url]
    done = subprocess.run(
        argv, capture_output=True, timeout=60, check=False, env={"PATH": SEARCH_PATH}
    )
    return done.stdout.decode("latin-1") if done.returncode == 0 else None


async def test_both_hosts_see_one_device(server: TgtServer, tmp_path: Path) -> None:
    adapter = tgt_adapter(tmp_path, server)
    await adapter.create_volume("v1", 1)
    await adapter.create_volume("v2", 1)
    one = page(await adapter.connect_volume("v1", HOST1), HOST1.initiator)
    two = page(await adapter.connect_volume("v1", HOST2), HOST2.initiator)
    other = page(await adapter.connect_volume("v2", HOST2), HOST2.initiator)
    assert one is not None
    assert "NAA" in one
    assert one == two
    assert one != other


@pytest.mark.parametrize("chap", [False, True])
async def test_a_daemon_that_was_started_again_is_told_everything(
    server: TgtServer, tmp_path: Path, chap: bool
) -> None:
    adapter = tgt_adapter(tmp_path, server, chap=chap)
    await adapter.create_volume("v1", 1)
    before = await adapter.connect_volume("v1", HOST1)
    await adapter.connect_volume("v1", HOST2)
    targets = await Tgtd(server.socket).targets()
    server.kill()
    server.start()
    assert server.show() == ""
    after = await adapter.connect_volume("v1", HOST1)
    assert after.data == before.data
    again = await Tgtd(server.socket).targets()
    assert {name: (one.luns, one.acl, one.accounts) for name, one in again.items()} == {
        name: (one.luns, one.acl, one.accounts) for name, one in targets.items()
    }
    await adapter.disconnect_volume("v1", None)
    assert server.show() == ""


async def test_a_daemon_that_was_started_again_has_nothing_to_shut_out(
    server: TgtServer, tmp_path: Path
) -> None:
    adapter = tgt_adapter(tmp_path, server, chap=True)
    await adapter.create_volume("v1", 1)
    await adapter.connect_volume("v1", HOST1)
    server.kill()
    server.start()
    await adapter.disconnect_volume("v1", HOST1)
    await adapter.delete_volume("v1")


async def test_a_unit_that_a_killed_command_left_without_its_names_gets_them(
    server: TgtServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it had those of tgtd, and so the name of any other unit with the same numbers."""

    class Killed(BaseException):
        pass

    async def killed(self: Tgtd, tid: int, facts: object) -> None:
        raise Killed

    adapter = tgt_adapter(tmp_path, server)
    await adapter.create_volume("v1", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Tgtd, "describe_unit", killed)
        with pytest.raises(Killed):
            await adapter.connect_volume("v1", HOST1)
    info = adapter._data("v1", Connection(HOST1))
    nobody = ConnectionInfo("iscsi", info)
    assert page(nobody, HOST1.initiator) is None, "it was let in to a unit that is not ready"
    one = page(await adapter.connect_volume("v1", HOST1), HOST1.initiator)
    two = page(await adapter.connect_volume("v1", HOST2), HOST2.initiator)
    assert one is not None
    assert one == two
    await adapter.disconnect_volume("v1", None)
    assert server.show() == ""


async def test_another_host_of_the_same_name_is_told_so(server: TgtServer, tmp_path: Path) -> None:
    """And the one that is connected keeps what it has."""
    adapter = tgt_adapter(tmp_path, server)
    await adapter.create_volume("v1", 1)
    info = await adapter.connect_volume("v1", HOST1)
    twin = Connector(HOST1.host, initiator="iqn.2026-01.org.example:twin")
    with pytest.raises(ManagedVolumeInUse, match="another host"):
        await adapter.connect_volume("v1", twin)
    assert page(info, HOST1.initiator) is not None
    assert page(info, twin.initiator) is None
    await adapter.disconnect_volume("v1", HOST1)
    assert page(await adapter.connect_volume("v1", twin), twin.initiator) is not None
    await adapter.disconnect_volume("v1", None)


async def test_a_host_that_cannot_be_cut_off_does_not_spare_the_others(
    server: TgtServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = tgt_adapter(tmp_path, server)
    await adapter.create_volume("v1", 1)
    infos = {host: await adapter.connect_volume("v1", host) for host in (HOST1, HOST2)}
    first = min(HOST1, HOST2, key=key_of)
    removed = TgtAdapter._remove

    async def hangs(self: TgtAdapter, name: str) -> None:
        if name.endswith(key_of(first)):
            raise ToolStalled("tgtd", 30)
        await removed(self, name)

    async def none(self: TgtAdapter, volume: str) -> None:
        """It would meet the same target once more."""

    with monkeypatch.context() as patch:
        patch.setattr(TgtAdapter, "_remove", hangs)
        patch.setattr(TgtAdapter, "_cut_all", none)
        with pytest.raises(ToolStalled):
            await adapter.disconnect_volume("v1", None)
    [other] = {HOST1, HOST2} - {first}
    assert page(infos[other], other.initiator) is None
    assert (await adapter.volume_info("v1")).hosts == [first.host]
    await adapter.disconnect_volume("v1", None)
    assert server.show() == ""


async def test_the_targets_of_others_stay(server: TgtServer, tmp_path: Path) -> None:
    tgtd = Tgtd(server.socket)
    await tgtd.new_target(1, "iqn.2026-01.org.example:others")
    await tgtd.new_target(3, "iqn.2026-01.org.leasehold:v10.0123456789abcdef")
    await tgtd.bind(3, "iqn.a:b")
    before = server.show()
    adapter = tgt_adapter(tmp_path, server)
    await adapter.create_volume("v1", 1)
    await adapter.connect_volume("v1", HOST1)
    await adapter.connect_volume("v1", HOST2)
    assert sorted(one.tid for one in (await tgtd.targets()).values()) == [1, 2, 3, 4]
    await adapter.disconnect_volume("v1", None)
    assert server.show() == before


async def test_a_target_of_a_volume_that_nobody_has_recorded_goes_with_all_others(
    server: TgtServer, tmp_path: Path
) -> None:
    adapter = tgt_adapter(tmp_path, server)
    await adapter.create_volume("v1", 1)
    tgtd = Tgtd(server.socket)
    await tgtd.new_target(1, "iqn.2026-01.org.leasehold:v1.0123456789abcdef")
    await tgtd.new_unit(1, str(tmp_path / "volumes" / "v1" / "disk"), {"scsi_sn": "1"})
    await tgtd.bind(1, str(HOST1.initiator))
    await adapter.disconnect_volume("v1", HOST1)
    assert re.search("^Target 1", server.show())
    await adapter.disconnect_volume("v1", None)
    assert server.show() == ""


async def test_a_host_needs_a_name_of_iscsi_and_so_does_a_volume(
    server: TgtServer, tmp_path: Path
) -> None:
    adapter = tgt_adapter(tmp_path, server)
    await adapter.create_volume("v1", 1)
    with pytest.raises(BadParameter, match="initiator"):
        await adapter.connect_volume("v1", Connector("host1"))
    await adapter.create_volume("V_2", 1)
    with pytest.raises(BadParameter, match="iSCSI"):
        await adapter.connect_volume("V_2", HOST1)
    assert (await adapter.volume_info("v1")).hosts == []
    assert server.show() == ""


async def test_each_host_has_a_password_of_its_own(server: TgtServer, tmp_path: Path) -> None:
    adapter = tgt_adapter(tmp_path, server, chap=True)
    await adapter.create_volume("v1", 1)
    data = [(await adapter.connect_volume("v1", host)).data for host in (HOST1, HOST2)]
    assert data[0]["auth_method"] == "CHAP"
    assert len({one["auth_password"] for one in data}) == 2
    assert len({one["auth_username"] for one in data}) == 2
    assert all(12 <= len(one["auth_password"]) <= 16 for one in data)  # what initiators take
    await adapter.disconnect_volume("v1", HOST1)
    renewed = (await adapter.connect_volume("v1", HOST1)).data
    assert renewed["auth_password"] != data[0]["auth_password"]
    await adapter.disconnect_volume("v1", None)
    assert server.show() == ""
