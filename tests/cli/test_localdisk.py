"""`leasehold localdisk` on this host, in the foreground; LVM is a stand-in."""

import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.local_disks import MIB, LocalCli, foreign, volume
from tests.cli.run import ended, until
from tests.local_disks import EXTENT, StandIn

pytestmark = pytest.mark.tools("qemu-img")

VM, OTHER = "dddddddd-eeee-4fff-8000-111111111111", "eeeeeeee-ffff-4000-8111-222222222222"


@pytest.fixture
def cli(tmp_path: Path) -> LocalCli:
    (tmp_path / "lvm").mkdir()
    return LocalCli(tmp_path / "home", StandIn.made(tmp_path / "lvm"))


@contextmanager
def preparing(cli: LocalCli, source: Path, *words: object) -> Iterator[subprocess.Popen[str]]:
    """A copy that takes long, in the middle."""
    words = ("localdisk", "prepare", source, "--vm", VM, "--limit", "1M", *words)
    with cli.started(*words) as process:
        until(lambda: process.poll() is not None or _filling(cli))
        assert process.poll() is None, ended(process)
        yield process


def _filling(cli: LocalCli) -> bool:
    """Does a tool write to a disk?"""
    found = cli.group.volumes().values()
    return any("UPDATING" in one.tags for one in found) and any(
        cli.group.device(one.name).stat().st_blocks for one in found
    )


# --- prepare --------------------------------------------------------------------------------------


def test_a_disk_is_copied_and_its_device_is_printed(cli: LocalCli) -> None:
    source = cli.image()
    made = cli.localdisk("prepare", source, "--vm", VM)
    assert made.code == 0, made
    device = Path(made.out.rstrip("\n"))
    assert device.read_bytes() == source.read_bytes()
    assert "leasehold: copied 4.00M in " in made.err
    [disk] = cli.disks()
    assert disk["path"] == str(device)
    assert (disk["state"], disk["vm_id"], disk["backend"]) == ("ready", VM, "lvm")
    assert (disk["size"], disk["started"], disk["job_status"]) == (4 * MIB, False, None)


def test_a_disk_that_is_ready_is_used_as_it_is(cli: LocalCli) -> None:
    source = cli.image()
    first = cli.done("prepare", source, "--vm", VM)
    device = Path(first["path"])
    device.write_bytes(b"x" * (4 * MIB))
    again = cli.done("prepare", source, "--vm", VM, "--start")
    assert device.read_bytes() == b"x" * (4 * MIB)
    assert (again["path"], again["vol_id"]) == (first["path"], first["vol_id"])
    assert (first["reused"], again["reused"]) == (False, True)
    assert cli.disks()[0]["started"] is True
    told = cli.localdisk("prepare", source, "--vm", VM, "--quiet")
    assert (told.out, told.err) == (f"{device}\n", "")


def test_the_facts_of_a_copy_are_told_to_programs(cli: LocalCli) -> None:
    made = cli.done("prepare", cli.image(), "--vm", VM, "--backend", "lvmthin")
    amounts = {key: made.pop(key) for key in ("bytes", "seconds", "rate")}
    assert amounts["bytes"] == 4 * MIB
    assert amounts["seconds"] > 0
    names = {"vol_id", "img_id", "vm_id", "backend", "job_id", "path", "host", "state"}
    assert set(made) == {*names, "changed", "reused"}
    told = (made["state"], made["backend"], made["vm_id"], made["host"], made["changed"])
    assert told == ("ready", "lvmthin", VM, None, False)


def test_a_qcow2_image_is_found_to_be_one_and_copied_flat(cli: LocalCli) -> None:
    raw, source = cli.image(), cli.home.parent / "disk.qcow2"
    subprocess.run(
        ["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", raw, source], check=True
    )
    assert Path(cli.done("prepare", source)["path"]).read_bytes() == raw.read_bytes()
    told = cli.localdisk("prepare", source, "--vm", VM, "--source-format", "raw", "--json")
    assert (told.code, len(cli.disks())) == (2, 1)
    assert told.error["kind"] == "WrongFormat"


def test_a_volume_of_a_known_domain_gives_its_id(cli: LocalCli, tmp_path: Path) -> None:
    sd, source = cli.domain(tmp_path / "mnt"), cli.image()
    made = cli("volume", "create", sd, "--size", "4M", "--json").json
    name = "/".join((sd, made["img_id"], made["vol_id"]))
    assert cli("copy", source, name).code == 0
    disk = cli.done("prepare", name, "--vm", VM)
    assert Path(disk["path"]).name == disk["vol_id"] == made["vol_id"]
    assert Path(disk["path"]).read_bytes() == source.read_bytes()
    [listed] = cli.disks()
    assert (listed["img_id"], listed["generation"]) == (made["img_id"], 1)
    # A template that changed is copied again, unless a VM has written to the disk.
    assert cli("copy", cli.image(), name).code == 0
    assert cli.done("prepare", name, "--vm", VM, "--start")["reused"] is False
    assert cli("copy", source, name).code == 0
    told = cli.localdisk("prepare", name, "--vm", VM)
    assert "its source has changed since it was copied" in told.err
    assert cli.done("prepare", name, "--vm", VM)["changed"] is True
    assert Path(disk["path"]).read_bytes() != source.read_bytes()
    again = cli.done("prepare", name, "--vm", VM, "--again")
    assert (again["changed"], again["reused"]) == (False, False)
    assert Path(disk["path"]).read_bytes() == source.read_bytes()


def test_the_lease_can_be_in_a_domain_that_is_named(cli: LocalCli, tmp_path: Path) -> None:
    sd, source = cli.domain(tmp_path / "mnt"), cli.image(40)
    with preparing(cli, source, "--domain", sd) as process:
        [lease] = cli("lease", "list", sd, "--json").json["leases"]
        assert lease["lease_id"] == cli.disks()[0]["job_id"]
        process.kill()
    told = cli.localdisk("prepare", source, "--domain", str(uuid.uuid4()), "--json")
    assert (told.code, told.error["code"]) == (3, 358)
    # Nor is it known then what became of the copy that was killed.
    told = cli.localdisk("prepare", source, "--vm", VM, "--domain", str(uuid.uuid4()), "--json")
    assert (told.code, told.error["code"]) == (7, 4302)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_aborts_the_copy_and_the_next_one_makes_it_anew(
    cli: LocalCli, number: signal.Signals
) -> None:
    source = cli.image(40)
    with preparing(cli, source) as process:
        process.send_signal(number)
        told = ended(process)
    assert (told.code, told.out) == (4, "")
    assert "was aborted; look with `leasehold localdisk list`" in told.err
    [disk] = cli.disks()
    assert (disk["state"], disk["job_status"]) == ("filling", "FAILED")
    made = cli.done("prepare", source, "--vm", VM)
    assert made["job_id"] != disk["job_id"]
    assert Path(made["path"]).read_bytes() == source.read_bytes()


def test_progress_has_bytes_rate_and_time_left(cli: LocalCli) -> None:
    with preparing(cli, cli.image(40)) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "copying" in line)
    assert " of 40.0M, " in line
    assert "/s, 0:00:" in line
    assert line.endswith(" left\n")


def test_a_copy_that_was_killed_is_made_anew(cli: LocalCli) -> None:
    source = cli.image(40)
    with preparing(cli, source) as process:
        process.kill()
    [disk] = cli.disks()
    assert disk["state"] == "filling"
    made = cli.done("prepare", source, "--vm", VM)
    assert made["job_id"] != disk["job_id"]
    assert Path(made["path"]).read_bytes() == source.read_bytes()


def test_two_at_once_make_one_copy(cli: LocalCli) -> None:
    source = cli.image(8)
    words = ("localdisk", "prepare", source, "--vm", VM, "--json")
    with preparing(cli, source, "--json", "--limit", "4M") as first, cli.started(*words) as second:
        told = [ended(first), ended(second)]
    assert [one.code for one in told] == [0, 0]
    assert told[0].json["job_id"] == told[1].json["job_id"]
    assert len([call for call in cli.group.calls() if call[0] == "create"]) == 1


def test_ctrl_c_does_not_abort_a_copy_that_somebody_else_began(cli: LocalCli) -> None:
    source = cli.image(16)
    words = ("localdisk", "prepare", source, "--vm", VM)
    with preparing(cli, source, "--limit", "2M") as first, cli.started(*words) as second:
        assert second.stderr is not None
        line = next(line for line in second.stderr if "copying" in line)  # of the same copy
        assert " of 16.0M, " in line
        second.send_signal(signal.SIGINT)
        assert ended(second).code == 4
        assert ended(first).code == 0


# --- list, remove, gc -----------------------------------------------------------------------------


def test_a_disk_is_listed_with_what_is_known_of_it(cli: LocalCli) -> None:
    assert cli.localdisk("list").out == "no local disks\n"
    disk = volume(f"VM_{VM}", "STARTED", size=EXTENT, pool="pool0", open=True)
    cli.group.add(disk)
    cli.group.add(volume("x", name="other"))
    lines = cli.localdisk("list").out.splitlines()
    assert lines == [
        f"{disk.name}  ready    lvmthin   4.00M  VM {VM}  handed to its VM  open",
    ]


def test_one_disk_or_those_of_a_vm_are_removed(cli: LocalCli) -> None:
    disks = [volume(f"VM_{vm}") for vm in (VM, VM, OTHER, OTHER)]
    for disk in disks:
        cli.group.add(disk)
    one = cli.localdisk("remove", disks[0].name)
    assert (one.code, one.out) == (0, f"removed local disk {disks[0].name}\n")
    assert cli.done("remove", "--vm", OTHER)["removed"] == sorted(d.name for d in disks[2:])
    assert list(cli.group.volumes()) == [disks[1].name]
    none = cli.localdisk("remove", disks[0].name)
    assert (none.code, none.out) == (0, f"there is no local disk {disks[0].name}\n")
    assert cli.localdisk("remove", "--vm", OTHER).out == f"VM {OTHER} has no local disks\n"


def test_one_that_is_open_or_not_ours_is_not_removed(cli: LocalCli) -> None:
    busy = volume(f"VM_{VM}", open=True)
    theirs = foreign()
    for one in (busy, theirs):
        cli.group.add(one)
        told = cli.localdisk("remove", one.name, "--json")
        assert (told.code, told.error["code"]) == (6, 4301 if one is busy else 4300)
    assert set(cli.group.volumes()) == {busy.name, theirs.name}


def test_one_that_is_being_filled_is_removed_after_its_copy_was_aborted(cli: LocalCli) -> None:
    with preparing(cli, cli.image(40)) as process:
        [disk] = cli.disks()
        told = cli.localdisk("remove", disk["vol_id"], "--json")
        assert (told.code, told.error["code"]) == (6, 4301)
        assert process.poll() is None
        told = cli.localdisk("remove", disk["vol_id"], "--abort")
        assert (told.code, told.out) == (0, f"removed local disk {disk['vol_id']}\n")
        assert ended(process).code == 4
    assert cli.disks() == []


def test_gc_removes_what_nothing_needs_and_dry_run_only_tells(cli: LocalCli) -> None:
    dead, gone = volume("UPDATING", f"VM_{VM}"), volume(f"VM_{OTHER}")
    kept = [volume(f"VM_{VM}"), volume("UPDATING", f"VM_{OTHER}", open=True)]
    for disk in (dead, gone, *kept):
        cli.group.add(disk)
    told = cli.localdisk("gc", "--dry-run")
    assert told.code == 0
    assert told.out.startswith(f"would remove local disk {dead.name}: ")
    assert told.out.count("\n") == 1
    assert len(cli.group.volumes()) == 4
    assert cli.localdisk("gc").out.startswith(f"removed local disk {dead.name}: ")
    vms = cli.home.parent / "vms"
    vms.write_text(f"{VM}\n")
    [unused] = cli.done("gc", "--vms", vms)["unused"]
    assert (unused["vol_id"], unused["removed"], unused["failed"]) == (gone.name, True, None)
    assert set(cli.group.volumes()) == {disk.name for disk in kept}
    assert cli.localdisk("gc").out == "nothing to remove\n"


def test_gc_asks_the_configured_command_which_vms_there_are(cli: LocalCli) -> None:
    needed, gone = volume(f"VM_{VM}"), volume(f"VM_{OTHER}")
    for disk in (needed, gone):
        cli.group.add(disk)
    vms = cli.home.parent / "vms"
    vms.write_text(f"#!/bin/sh\necho {VM}\n")
    vms.chmod(0o755)
    more = LocalCli(cli.home, cli.group, {"LEASEHOLD_LOCALDISK_VMS": str(vms)})
    [unused] = more.done("gc")["unused"]
    assert (unused["vol_id"], unused["removed"]) == (gone.name, True)
    vms.write_text("#!/bin/sh\nexit 1\n")
    told = more.localdisk("gc", "--json")
    assert (told.code, told.error["kind"]) == (1, "ToolFailed")
    assert set(cli.group.volumes()) == {needed.name}


def test_gc_that_cannot_remove_one_is_exit_1_and_says_which(cli: LocalCli) -> None:
    dead = volume("UPDATING")
    cli.group.add(dead)
    cli.group.fail("remove", "  a device of the group is gone")
    told = cli.localdisk("gc")
    assert told.code == 1
    assert told.out.startswith(f"local disk {dead.name} is kept: ")
    assert "a device of the group is gone" in told.out


def test_gc_keeps_one_that_is_being_filled(cli: LocalCli) -> None:
    more = LocalCli(cli.home, cli.group, {"LEASEHOLD_LOCALDISK_KEEP": "0"})
    with preparing(cli, cli.image(40)) as process:
        vms = cli.home.parent / "vms"
        vms.write_text(f"{OTHER}\n")
        assert more.done("gc", "--vms", vms)["unused"] == []
        process.kill()
        process.wait()
        [unused] = more.done("gc", "--vms", vms)["unused"]
        assert unused["removed"] is True


# --- what can be wrong ----------------------------------------------------------------------------


def test_what_is_missing_or_full_is_refused_before_anything_is_made(cli: LocalCli) -> None:
    source = cli.image()
    told = cli.localdisk("prepare", cli.home.parent / "none", "--source-format", "raw", "--json")
    assert (told.code, told.error["kind"]) == (3, "ImageMissing")
    with cli.group.content() as content:
        content.size = (1 << 39) + MIB
    told = cli.localdisk("prepare", source, "--json")
    assert (told.code, told.error["kind"]) == (6, "NoLocalSpace")
    assert "vgextend" in told.error["message"]
    with cli.group.content() as content:
        content.error_when_full = False
    told = cli.localdisk("prepare", source, "--backend", "lvmthin", "--json")
    assert (told.code, told.error["kind"]) == (6, "ThinPoolUnsafe")
    with cli.group.content() as content:
        content.pool_size = None
    told = cli.localdisk("prepare", source, "--backend", "lvmthin", "--json")
    assert (told.code, told.error["kind"]) == (6, "ThinPoolMissing")
    with cli.group.content() as content:
        content.present = False
    for words in (("prepare", source), ("list",), ("gc",), ("remove", str(uuid.uuid4()))):
        told = cli.localdisk(*words, "--json")
        assert (told.code, told.error["kind"]) == (6, "VolumeGroupMissing"), words
    assert not [call for call in cli.group.calls() if call[0] in ("create", "remove", "change")]


def test_a_volume_of_that_name_which_is_not_ours_is_never_touched(cli: LocalCli) -> None:
    source = cli.image()
    theirs = foreign()
    cli.group.add(theirs)
    told = cli.localdisk("prepare", source, "--id", theirs.name, "--again", "--json")
    assert (told.code, told.error["code"]) == (6, 4300)
    assert cli.group.volumes() == {theirs.name: theirs}


def test_lvm_that_fails_is_exit_1_with_what_it_said(cli: LocalCli) -> None:
    cli.group.fail("create", "  a device of the group is gone")
    told = cli.localdisk("prepare", cli.image(), "--json")
    assert (told.code, told.error["kind"]) == (1, "ToolFailed")
    assert "a device of the group is gone" in told.error["message"]
    assert cli.disks() == []


def test_a_copy_that_fails_is_exit_1_and_leaves_the_disk_unusable(cli: LocalCli) -> None:
    source = cli.image(8)
    with preparing(cli, source, "--json", "--limit", "2M") as process:
        with source.open("r+b") as file:
            file.truncate(MIB)
        told = ended(process)
    assert told.code == 1
    assert told.error["data"]["job"]["status"] == "failed"
    [disk] = cli.disks()
    assert (disk["state"], disk["job_status"]) == ("filling", "FAILED")


def test_the_helper_is_asked_and_no_other_program(cli: LocalCli) -> None:
    """A user without rights is told so."""
    more = LocalCli(cli.home, cli.group, {"LEASEHOLD_LOCALDISK_HELPER": "/does/not/exist"})
    told = more.localdisk("list", "--json")
    assert (told.code, told.error["kind"]) == (1, "ToolMissing")
