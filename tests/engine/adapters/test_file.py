"""The `file` adapter: one qemu-nbd for each host, which goes on, comes back, and ends."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from engine.adapters.connections import Connections
from processes import nbd, qemu_nbd
from protocol.errors import ManagedVolumeInUse
from protocol.managed import GIB, ConnectionInfo
from tests.engine.adapters.sites import HOST1, HOST2, file_adapter
from tests.servers import until, users

pytestmark = pytest.mark.tools("qemu-nbd", "nbdinfo")


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disks"
    yield place
    for pid in users(place):
        os.kill(pid, signal.SIGKILL)


def socket_of(info: ConnectionInfo) -> str:
    url: str = info.data["url"]
    return parse_qs(urlsplit(url).query)["socket"][0]


async def serves(info: ConnectionInfo) -> bool:
    return (await nbd.info(info.data["url"])).export_size == GIB


async def test_the_answer_tells_the_host_which_helper_it_needs(path: Path) -> None:
    adapter = file_adapter(path)
    await adapter.create_volume("v1", 1)
    info = await adapter.connect_volume("v1", HOST1)
    assert (info.driver_volume_type, info.adapter) == ("file", "file")
    assert (info.data["volume_id"], info.data["size"]) == ("v1", GIB)
    assert info.data["url"].startswith("nbd+unix:///vol?socket=/")
    assert await serves(info)
    await adapter.disconnect_volume("v1", None)


async def test_a_server_that_died_is_started_again_at_the_same_place(path: Path) -> None:
    adapter = file_adapter(path)
    await adapter.create_volume("v1", 1)
    info = await adapter.connect_volume("v1", HOST1)
    [pid] = qemu_nbd.servers(socket_of(info))
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not qemu_nbd.servers(socket_of(info)))
    again = await adapter.connect_volume("v1", HOST1)
    assert again.data == info.data
    assert await serves(again)
    await adapter.disconnect_volume("v1", HOST1)
    assert users(path) == []


async def test_two_hosts_have_two_servers_of_one_volume(path: Path) -> None:
    adapter = file_adapter(path)
    await adapter.create_volume("v1", 1)
    one = await adapter.connect_volume("v1", HOST1)
    two = await adapter.connect_volume("v1", HOST2)
    assert socket_of(one) != socket_of(two)
    await adapter.disconnect_volume("v1", HOST1)
    assert qemu_nbd.servers(socket_of(one)) == []
    assert await serves(two)
    await adapter.disconnect_volume("v1", None)
    assert users(path) == []


async def test_a_socket_has_a_short_path_also_in_a_deep_folder(path: Path) -> None:
    deep = path / ("d" * 120)
    adapter = file_adapter(deep)
    await adapter.create_volume("v1", 1)
    info = await adapter.connect_volume("v1", HOST1)
    socket = Path(socket_of(info))
    assert len(str(socket)) <= qemu_nbd.SOCKET_LIMIT
    assert socket.parent.stat().st_mode & 0o077 == 0
    assert await serves(info)
    os.kill(qemu_nbd.servers(str(socket))[0], signal.SIGKILL)
    await until(lambda: not qemu_nbd.servers(str(socket)))
    for left in socket.parent.iterdir():  # the host is rebooted: /tmp is empty
        left.unlink()
    socket.parent.rmdir()
    again = await adapter.connect_volume("v1", HOST1)
    assert await serves(again)
    await adapter.disconnect_volume("v1", None)
    assert not Path(socket_of(again)).parent.exists()


async def test_a_host_that_was_being_shut_out_is_not_connected_until_it_is_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disconnect was killed before it could end the server."""

    class Killed(BaseException):
        pass

    def killed(socket: str) -> None:
        raise Killed

    adapter = file_adapter(path)
    await adapter.create_volume("v1", 1)
    first = await adapter.connect_volume("v1", HOST1)
    with monkeypatch.context() as patch:
        patch.setattr(qemu_nbd, "end", killed)
        with pytest.raises(Killed):
            await adapter.disconnect_volume("v1", HOST1)
    [pid] = qemu_nbd.servers(socket_of(first))
    [record] = Connections.of(path / "volumes" / "v1").all()
    assert record.ending
    with pytest.raises(ManagedVolumeInUse):
        await adapter.get_connection_info("v1", None)
    with pytest.raises(ManagedVolumeInUse):
        await adapter.delete_volume("v1")
    second = await adapter.connect_volume("v1", HOST1)
    [other] = qemu_nbd.servers(socket_of(second))
    assert other != pid
    await adapter.disconnect_volume("v1", HOST1)
    assert users(path) == []
    await adapter.delete_volume("v1")
