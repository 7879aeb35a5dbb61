"""Where an attached volume is, and whether it is there."""

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from host import managed_place
from host.managed_place import Garbage, NotThere, Place, place
from protocol.errors import ManagedVolumeUnsupportedDevice
from tests.managed import loop_device
from tests.servers import MIB, WAIT, garbage, qemu_nbd, raw_image, silent
from tests.tgt_server import free_port

VOL = "vol-1"
IQN = "iqn.2026-01.org.example:disk"


@pytest.mark.parametrize(
    ("driver", "attachment", "found"),
    [
        ("rbd", {"path": "/dev/rbd0"}, Place("/dev/rbd0")),
        ("local", {"path": "/dev/drbd7", "type": "local"}, Place("/dev/drbd7")),
        ("iscsi", {"path": "/dev/dm-1", "multipath_id": "36"}, Place("/dev/mapper/36", "36")),
        ("fibre_channel", {"path": "/dev/sda", "multipath_id": "x"}, Place("/dev/mapper/x", "x")),
        ("storpool", {"path": "/dev/x", "multipath_id": "y"}, Place("/dev/x", "y")),
        ("iscsi", {"path": f"iscsi://HOST/{IQN}/1"}, Place(f"iscsi://HOST:3260/{IQN}/1")),
        ("rbd", {"path": "rbd:pool/disk:id=me"}, Place("rbd:pool/disk:id=me")),
        ("file", {"path": "nbd:unix:/x"}, Place("nbd+unix:///?socket=/x")),
    ],
)  # fmt: skip
def test_what_a_helper_tells_becomes_a_place(
    driver: str, attachment: dict[str, Any], found: Place
) -> None:
    assert place(VOL, driver, attachment) == found
    assert found.is_device == found.path.startswith("/")


@pytest.mark.parametrize("driver", ["iscsi", "fibre_channel"])
@pytest.mark.parametrize("more", [{}, {"multipath_id": ""}, {"multipath_id": None}])
def test_a_device_with_one_path_is_not_used(driver: str, more: dict[str, Any]) -> None:
    with pytest.raises(ManagedVolumeUnsupportedDevice, match="multipath"):
        place(VOL, driver, {"path": "/dev/sda", **more})


@pytest.mark.parametrize(
    "attachment",
    [
        {},
        {"path": None},
        {"path": ""},
        {"path": 7},
        {"path": "relative"},
        {"path": "http://host/x"},
        {"path": "/dev/../etc/shadow"},
        {"path": "/dev/x\ny"},
        {"path": "/" + "x" * 5000},
        {"path": "iscsi://user%secret@host/x/1"},
        {"path": "/dev/sda", "multipath_id": "../sda"},
        {"path": "/dev/sda", "multipath_id": "-x"},
        {"path": "/dev/sda", "multipath_id": 7},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_told(attachment: dict[str, Any]) -> None:
    with pytest.raises(Garbage):
        place(VOL, "iscsi", attachment)


# --- devices ----------------------------------------------------------------------------------


async def test_a_device_may_take_its_time_to_appear(tmp_path: Path) -> None:
    link = tmp_path / "mapper"
    with loop_device(tmp_path) as device:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(managed_place.appeared, VOL, Place(str(link)), 20.0)
            await trio.testing.wait_all_tasks_blocked()
            assert not await managed_place.exists(str(link))
            link.symlink_to(device)
        assert await managed_place.exists(str(link))


async def test_a_device_that_does_not_appear_is_not_waited_for_long(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("/dev/nowhere")
    for name in ("missing", "dangling"):
        with trio.fail_after(10), pytest.raises(NotThere, match=r"did not appear in 0\.1 s"):
            await managed_place.appeared(VOL, Place(str(tmp_path / name)), 0.1)


async def test_a_file_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (str(tmp_path / "file"), "/dev/null", str(tmp_path)):
        with pytest.raises(ManagedVolumeUnsupportedDevice, match="no block device"):
            await managed_place.appeared(VOL, Place(path), 10)


# --- urls -------------------------------------------------------------------------------------


@pytest.mark.tools("qemu-nbd", "nbdinfo")
async def test_the_volume_of_a_server_must_open(tmp_path: Path) -> None:
    with qemu_nbd(raw_image(tmp_path / "disk", MIB), tmp_path) as server:
        await managed_place.appeared(VOL, Place(server.url), 20)
        assert await managed_place.exists(server.url)
        with pytest.raises(NotThere, match="cannot connect"):
            await managed_place.appeared(VOL, Place(server.url.replace("/vol?", "/other?")), 20)
    assert not await managed_place.exists(server.url)
    with pytest.raises(NotThere):
        await managed_place.appeared(VOL, Place(server.url), 20)


@pytest.mark.tools("nbdinfo")
async def test_a_server_that_says_nothing_or_nonsense_is_told(tmp_path: Path) -> None:
    with silent(tmp_path) as path, pytest.raises(NotThere, match=r"could not be opened in 0\.2 s"):
        await managed_place.appeared(VOL, Place(f"nbd+unix:///x?socket={path}"), 0.2)
    with garbage(tmp_path) as server, pytest.raises(NotThere):
        await managed_place.appeared(VOL, Place(f"nbd+unix:///x?socket={server.socket}"), 20)


@pytest.mark.tools("qemu-img")
async def test_a_unit_that_nobody_serves_is_told_in_few_words() -> None:
    url = f"iscsi://127.0.0.1:{free_port()}/{IQN}/1"
    with pytest.raises(NotThere) as caught:
        await managed_place.appeared(VOL, Place(url), 20)
    assert str(caught.value).startswith(f"{url} cannot be opened: ")
    assert "json:" not in str(caught.value)


async def test_a_look_whether_a_server_is_there_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answered_by_nobody(host: str, port: int) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(managed_place, "REACH_TIME", 0.05)
    monkeypatch.setattr(trio, "open_tcp_stream", answered_by_nobody)
    with trio.fail_after(10):
        assert not await managed_place.exists(f"iscsi://192.0.2.1/{IQN}/1")


async def test_a_url_is_there_when_its_server_or_its_files_are(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert await managed_place.exists(f"iscsi://127.0.0.1:{port}/{IQN}/1")
    assert not await managed_place.exists(f"nbd://127.0.0.1:{port}/x")
    conf = tmp_path / "ceph.conf"
    assert not await managed_place.exists(f"rbd:pool/disk:conf={conf}")
    conf.touch()
    assert await managed_place.exists(f"rbd:pool/disk:conf={conf}")
    assert not await managed_place.exists("nonsense")


async def test_a_device_that_hangs_is_not_there_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, answers, looks, real = str(tmp_path / "device"), threading.Event(), [0], os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        if path == device:
            looks[0] += 1
            assert answers.wait(WAIT), "nobody else could go on meanwhile"
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(managed_place, "REACH_TIME", 0.3)
    try:
        for _ in range(2):
            assert not await managed_place.exists(device)
        with pytest.raises(NotThere):
            await managed_place.appeared(VOL, Place(device), 0.1)
    finally:
        answers.set()
    assert looks == [1], "each look keeps a thread"
