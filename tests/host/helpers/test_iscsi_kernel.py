"""Units of iSCSI targets as devices of a kernel that has an initiator.

The kernels of test machines have none: iscsiadm, multipath and what the kernel shows in sysfs are
played by programs that keep the same files, names and exit statuses.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from endpoints.url import IscsiUrl
from host.helpers import iscsi, iscsi_kernel
from host.helpers.failure import Failed, Unsure
from processes import iscsiadm, multipath
from processes.iscsiadm import Credentials, Node
from protocol.errors import ToolFailed

IQN = "iqn.2026-01.org.example:volumes"
ONE = IscsiUrl("10.0.0.1", 3260, IQN, 1)
NODE = Node(IQN, "10.0.0.1:3260")
SECOND_PATH = IscsiUrl("fd00::1", 3260, IQN, 1)
WWID = "36001405aabbccdd"

_KERNEL = """\
#!{python} -I
import json, os, pathlib, shutil, sys
root = pathlib.Path({root!r})
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
with open(root / "calls", "a") as calls:
    calls.write(json.dumps([name, *words]) + "\\n")
facts = json.loads((root / "facts").read_text())
if name == "multipathd":
    sys.exit(0 if facts["multipathd"] else 1)
if name == "multipath":
    if facts["in_use"]:
        sys.exit("Nov 21 | " + words[1] + ": map in use")
    for holder in (root / "block").glob("*/holders/*"):
        if (holder / "dm" / "name").read_text().strip() == words[1]:
            shutil.rmtree(holder)
    sys.exit(0)
target, portal = words[words.index("-T") + 1], words[words.index("-p") + 1]
address, _, port = portal.rpartition(":")
address = address.strip("[]")
number = 1 + sum(map(ord, portal)) % 7
session = root / f"session/session{{number}}"
connection = root / f"connection/connection{{number}}:0"
record = root / "nodes" / target / f"{{address}},{{port}},1" / "default"
if words[-2:] == ["-o", "new"]:
    record.parent.mkdir(parents=True, exist_ok=True)
    lines = ["# BEGIN RECORD", "node.name = " + target, "node.session.auth.authmethod = None"]
    record.write_text("\\n".join([*lines, "# END RECORD", ""]))
elif "update" in words:
    record.write_text(record.read_text() + words[-3] + " = " + words[-1] + "\\n")
elif words[-1] == "--login":
    if portal in facts["dead"]:
        print("iscsiadm: cannot make connection to " + address, file=sys.stderr)
        sys.exit(4)
    if facts["password"] and facts["password"] not in record.read_text():
        print("iscsiadm: login failed to authenticate with target", file=sys.stderr)
        sys.exit(24)
    if session.exists():
        sys.exit(15)
    connection.mkdir(parents=True)
    for key in ("address", "persistent_address"):
        (connection / key).write_text(address + "\\n")
    for key in ("port", "persistent_port"):
        (connection / key).write_text(port + "\\n")
    (session / "device").mkdir(parents=True)
    (session / "targetname").write_text(target + "\\n")
elif words[-1] == "--logout":
    if not session.exists():
        sys.exit(21)
    shutil.rmtree(session)
    shutil.rmtree(connection)
elif words[-1] == "delete":
    if not record.exists():
        sys.exit(21)
    shutil.rmtree(record.parent)
"""


class Kernel:
    """What the kernel, open-iscsi and multipathd have."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[str, Any] = {
            "multipathd": True, "in_use": False, "mapped": True, "dead": [], "luns": [1],
            "password": "",
        }  # fmt: skip
        self.set()

    def set(self, **facts: Any) -> None:
        self.known |= facts
        (self.root / "facts").write_text(json.dumps(self.known))

    @property
    def calls(self) -> list[list[str]]:
        lines = (self.root / "calls").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def sessions(self) -> int:
        return len(list((self.root / "session").iterdir()))

    @property
    def records(self) -> list[Path]:
        return [path for path in (self.root / "nodes").rglob("*") if path.is_file()]

    @property
    def maps(self) -> list[Path]:
        return list((self.root / "block").glob("*/holders/*"))

    def scan(self, node: Node, lun: int) -> None:
        """As a write to `scan` makes it: a disk comes, and multipathd makes a device over it."""
        [session] = iscsiadm._sessions(node)
        number = session.name.removeprefix("session")
        disk = f"sd{number}{lun}"
        unit = session / f"device/target{number}:0:0/{number}:0:0:{lun}/block/{disk}"
        if lun not in self.known["luns"] or unit.exists():
            return
        unit.mkdir(parents=True)
        holders = self.root / "block" / disk / "holders"
        holders.mkdir(parents=True)
        if self.known["mapped"]:
            dm = holders / f"dm-{lun}" / "dm"
            dm.mkdir(parents=True)
            (dm / "uuid").write_text(f"mpath-{WWID}{lun}\n")
            (dm / "name").write_text(f"{WWID}{lun}\n")

    def forget(self, disk: str) -> None:
        """As a write to `delete` makes it."""
        shutil.rmtree(self.root / "block" / disk)
        for unit in (self.root / "session").glob(f"*/device/*/*/block/{disk}"):
            shutil.rmtree(unit.parents[1])

    def nothing_is_left(self) -> None:
        assert (self.sessions, self.records, self.maps) == (0, [], [])


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    for name in ("bin", "session", "connection", "nodes", "block", "tcp"):
        (tmp_path / name).mkdir()
    for name in ("iscsiadm", "multipath", "multipathd"):
        program = tmp_path / "bin" / name
        program.write_text(
            _KERNEL.format(python=os.path.realpath(sys.executable), root=str(tmp_path))
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(iscsiadm, "TRANSPORT", tmp_path / "tcp")
    monkeypatch.setattr(iscsiadm, "SESSIONS", tmp_path / "session")
    monkeypatch.setattr(iscsiadm, "CONNECTIONS", tmp_path / "connection")
    monkeypatch.setattr(iscsiadm, "RECORDS", (tmp_path / "nowhere", tmp_path / "nodes"))
    for module in (multipath, iscsiadm):
        monkeypatch.setattr(module, "BLOCK", tmp_path / "block")
    monkeypatch.setattr(iscsi_kernel, "DISK_TIME", 0.3)
    made = Kernel(tmp_path)
    monkeypatch.setattr(iscsiadm, "remove", made.forget)
    monkeypatch.setattr(iscsiadm, "scan", made.scan)
    return made


async def test_a_unit_is_a_multipath_device_by_all_its_paths(kernel: Kernel) -> None:
    units = (ONE, SECOND_PATH)
    found = await iscsi_kernel.attach(units, None)
    assert found["path"] == f"/dev/mapper/{WWID}1"
    assert found["multipath_id"] == f"{WWID}1"
    assert len(found["disks"]) == kernel.sessions == 2
    assert await iscsi_kernel.attach(units, None) == found  # once more is the same
    assert kernel.sessions == 2
    await iscsi_kernel.detach(units)
    kernel.nothing_is_left()
    await iscsi_kernel.detach(units)


async def test_a_path_that_is_dead_is_passed_over(kernel: Kernel) -> None:
    kernel.set(dead=["10.0.0.1:3260"])
    found = await iscsi_kernel.attach((ONE, SECOND_PATH), None)
    assert found["multipath_id"] == f"{WWID}1"
    await iscsi_kernel.detach((ONE, SECOND_PATH))
    kernel.nothing_is_left()
    with pytest.raises(Failed, match=r"cannot make connection to 10\.0\.0\.1"):
        await iscsi_kernel.attach((ONE,), None)
    kernel.nothing_is_left()


async def test_disks_without_a_multipath_device_are_given_back(kernel: Kernel) -> None:
    kernel.set(mapped=False)
    with pytest.raises(Failed, match="no multipath device"):
        await iscsi_kernel.attach((ONE,), None)
    kernel.nothing_is_left()


async def test_the_secret_of_chap_stands_in_the_record_and_in_no_command(kernel: Kernel) -> None:
    kernel.set(password="node.session.auth.password = TOPSECRET")
    found = await iscsi_kernel.attach((ONE,), Credentials("joe", "TOPSECRET"))
    assert found["multipath_id"] == f"{WWID}1"
    [record] = kernel.records
    lines = record.read_text().splitlines()
    assert "node.session.auth.authmethod = CHAP" in lines
    assert "node.session.auth.authmethod = None" not in lines
    assert "node.session.auth.username = joe" in lines
    assert {"node.startup = manual", "node.session.scan = manual"} <= set(lines)
    assert record.stat().st_mode & 0o777 == 0o600
    assert "TOPSECRET" not in json.dumps(kernel.calls)
    await iscsi_kernel.detach((ONE,))
    kernel.nothing_is_left()


async def test_a_wrong_password_leaves_nothing(kernel: Kernel) -> None:
    kernel.set(password="node.session.auth.password = TOPSECRET")
    with pytest.raises(Failed, match="failed to authenticate"):
        await iscsi_kernel.attach((ONE,), Credentials("joe", "GUESSED"))
    kernel.nothing_is_left()


async def test_a_device_that_is_open_keeps_its_session(kernel: Kernel) -> None:
    await iscsi_kernel.attach((ONE,), None)
    kernel.set(in_use=True)
    with pytest.raises(ToolFailed, match="map in use"):
        await iscsi_kernel.detach((ONE,))
    assert (kernel.sessions, len(kernel.maps)) == (1, 1)
    kernel.set(in_use=False)
    await iscsi_kernel.detach((ONE,))
    kernel.nothing_is_left()


class Died(BaseException):
    """Nothing of the helper goes on."""


def dying(monkeypatch: pytest.MonkeyPatch, verb: str, step: str) -> None:
    def reached(one: str, other: str) -> None:
        if (one, other) == (verb, step):
            raise Died

    monkeypatch.setattr(iscsi_kernel, "reached", reached)


@pytest.mark.parametrize("step", ["record", "session"])
async def test_a_helper_that_dies_in_an_attach_can_be_asked_to_detach_or_again(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    units = (ONE, SECOND_PATH)
    for again in (False, True):
        with monkeypatch.context() as patch:
            dying(patch, "helper-attach", step)
            with pytest.raises(Died):
                await iscsi_kernel.attach(units, None)
        assert kernel.records
        if again:
            assert (await iscsi_kernel.attach(units, None))["multipath_id"] == f"{WWID}1"
        await iscsi_kernel.detach(units)
        kernel.nothing_is_left()


@pytest.mark.parametrize("step", ["flush", "disks", "session"])
async def test_a_helper_that_dies_in_a_detach_can_be_asked_once_more(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    units = (ONE, SECOND_PATH)
    await iscsi_kernel.attach(units, None)
    with monkeypatch.context() as patch:
        dying(patch, "helper-detach", step)
        with pytest.raises(Died):
            await iscsi_kernel.detach(units)
    assert kernel.sessions
    await iscsi_kernel.detach(units)
    kernel.nothing_is_left()
    await iscsi_kernel.attach(units, None)
    await iscsi_kernel.detach(units)
    kernel.nothing_is_left()


async def test_what_cannot_be_undone_is_not_said_to_be(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked would forget it, and it would stay for ever."""

    async def none(units: object) -> None:  # it comes too late, and udev looks at it
        return None

    kernel.set(in_use=True)
    with monkeypatch.context() as patch:
        patch.setattr(iscsi_kernel, "_device", none)
        with pytest.raises(Unsure, match=r"no multipath device appeared.*map in use"):
            await iscsi_kernel.attach((ONE,), None)
    assert (kernel.sessions, len(kernel.maps)) == (1, 1)
    kernel.set(in_use=False)
    await iscsi_kernel.detach((ONE,))
    kernel.nothing_is_left()


async def test_a_disk_that_somebody_else_uses_is_not_taken_away(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there before, and no multipath device is made of it, because it is mounted."""
    kernel.set(mapped=False)
    mounts = kernel.root / "mounts"
    monkeypatch.setattr(iscsiadm, "MOUNTS", mounts)
    mounts.write_text("36 35 8:17 / /srv rw - ext4 /dev/sda1 rw\n")
    await iscsiadm.make_record(NODE, None)
    await iscsiadm.log_in(NODE)
    iscsiadm.scan(NODE, 1)
    [disk] = iscsiadm.disks(NODE)
    part = kernel.root / "block" / disk / f"{disk}1"
    part.mkdir()
    (part / "partition").write_text("1\n")
    (part / "dev").write_text("8:17\n")
    with pytest.raises(Unsure, match="Device or resource busy"):
        await iscsi_kernel.attach((ONE,), None)
    with pytest.raises(OSError, match="Device or resource busy"):
        await iscsi_kernel.detach((ONE,))
    mounts.write_text("")
    (part / "holders" / "dm-7").mkdir(parents=True)
    with pytest.raises(OSError, match="Device or resource busy"):
        await iscsi_kernel.detach((ONE,))
    assert iscsiadm.disks(NODE) == [disk]
    assert kernel.sessions == 1
    (part / "holders" / "dm-7").rmdir()
    await iscsi_kernel.detach((ONE,))
    kernel.nothing_is_left()


async def test_a_detach_does_not_end_the_session_that_an_attach_waits_for(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = IscsiUrl(ONE.host, ONE.port, IQN, 2)
    kernel.set(luns=[1, 2])
    await iscsi_kernel.attach((ONE,), None)
    monkeypatch.setattr(iscsi_kernel, "DISK_TIME", 20.0)
    asked, detached = trio.Event(), trio.Event()
    monkeypatch.setattr(iscsiadm, "scan", lambda node, lun: asked.set())

    async def attach() -> None:
        assert (await iscsi_kernel.attach((other,), None))["multipath_id"] == f"{WWID}2"

    async def detach() -> None:
        await iscsi_kernel.detach((ONE,))
        detached.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attach)
        await asked.wait()
        nursery.start_soon(detach)
        with trio.move_on_after(0.5):  # it would, if it did not wait
            await detached.wait()
        kernel.scan(NODE, 2)
    assert (kernel.sessions, len(kernel.maps)) == (1, 1)
    await iscsi_kernel.detach((other,))
    kernel.nothing_is_left()


async def test_a_session_with_another_unit_goes_on(kernel: Kernel) -> None:
    other = IscsiUrl(ONE.host, ONE.port, IQN, 2)
    kernel.set(luns=[1, 2, 3])
    await iscsi_kernel.attach((ONE,), None)
    await iscsi_kernel.attach((other,), None)
    await iscsi_kernel.detach((ONE,))
    assert (kernel.sessions, len(kernel.maps)) == (1, 1)
    assert kernel.maps[0].name == "dm-2"
    await iscsi_kernel.detach((other,))
    kernel.nothing_is_left()


async def test_the_helper_takes_this_way_when_there_is_one(kernel: Kernel, tmp_path: Path) -> None:
    data = {"target_portal": "10.0.0.1:3260", "target_iqn": IQN, "target_lun": 1}
    found = await iscsi.attach(data, tmp_path / "access")
    assert found["type"] == "block"
    await iscsi.detach(data, found, tmp_path / "access")
    kernel.nothing_is_left()
    await iscsi.attach(data, tmp_path / "access")
    await iscsi.detach(data, None, tmp_path / "access")  # of an attach that was cut off
    kernel.nothing_is_left()


async def test_a_volume_that_was_attached_by_its_url_is_none_of_the_kernels(
    kernel: Kernel, tmp_path: Path
) -> None:
    """open-iscsi was installed since, say; its session to that target is another matter."""
    data = {"target_portal": "10.0.0.1:3260", "target_iqn": IQN, "target_lun": 1}
    await iscsi.attach(data, tmp_path / "access")
    await iscsi.detach(data, {"type": "url", "path": "iscsi://..."}, tmp_path / "access")
    assert (kernel.sessions, len(kernel.maps)) == (1, 1)


@pytest.mark.parametrize("without", ["multipathd", "iscsiadm", "initiator"])
async def test_without_all_of_it_there_is_no_such_way(kernel: Kernel, without: str) -> None:
    assert await iscsi_kernel.usable()
    if without == "multipathd":
        kernel.set(multipathd=False)
    elif without == "iscsiadm":
        (kernel.root / "bin" / "iscsiadm").unlink()
        os.environ["PATH"] = f"{kernel.root}/bin"
    else:
        iscsiadm.TRANSPORT.rmdir()
    assert not await iscsi_kernel.usable()


def test_the_kernel_is_told_which_unit_to_look_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tree is that of Linux 6.1."""
    session = tmp_path / "devices/platform/host7/session3"
    session.mkdir(parents=True)
    entry, connection = tmp_path / "session/session3", tmp_path / "connection/connection3:0"
    for folder in (entry, connection, tmp_path / "hosts/host7"):
        folder.mkdir(parents=True)
    (entry / "device").symlink_to(session)
    (entry / "targetname").write_text(f"{IQN}\n")
    (connection / "persistent_address").write_text("10.0.0.1\n")
    (connection / "persistent_port").write_text("3260\n")
    monkeypatch.setattr(iscsiadm, "SESSIONS", tmp_path / "session")
    monkeypatch.setattr(iscsiadm, "CONNECTIONS", tmp_path / "connection")
    monkeypatch.setattr(iscsiadm, "HOSTS", tmp_path / "hosts")
    scan = tmp_path / "hosts/host7/scan"
    for node in (Node(IQN, "10.0.0.2:3260"), Node(f"{IQN}x", "10.0.0.1:3260")):
        iscsiadm.scan(node, 5)
        assert not scan.exists()
    iscsiadm.scan(Node(IQN, "10.0.0.1:3260"), 5)
    assert scan.read_text() == "0 0 5"


def test_the_kernel_is_told_to_forget_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iscsiadm, "BLOCK", tmp_path)
    delete = tmp_path / "sda" / "device" / "delete"
    delete.parent.mkdir(parents=True)
    delete.touch()
    iscsiadm.remove("sda")
    iscsiadm.remove("sdb")  # it has gone by itself
    assert delete.read_text() == "1"
