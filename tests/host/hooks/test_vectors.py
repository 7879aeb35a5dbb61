"""The hooks against what vdsm's runner recorded of the localdisk hook that they replace.

They are run whole, without an agent and with a stand-in for LVM. Where ours means to differ:
- an unknown backend is an error: a VM that silently began on shared storage would lose its writes
  to local disks that it believes to have;
- one copy goes straight into the logical volume, as a job: so there are more tags (JOB_, AT_,
  STARTED), and other words and calls; those of the other hook are not compared.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from processes.lvm_report import LogicalVolume
from tests.agent_service import agent_folder
from tests.faults.command import command
from tests.hook_runs import HookHost, hook_host, vectors

INPUTS = vectors()["inputs"]
RUNS = vectors()["hook_runs"]
VOLUME = INPUTS["volume"]
OURS = ("JOB_", "AT_", "STARTED")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HookHost]:
    with command(tmp_path) as made, agent_folder() as folder, hook_host(made, folder) as host:
        host.vm_id = INPUTS["vm_id"]
        yield host


def drive_of(run: Any, host: HookHost) -> dict[str, Any]:
    """With an image of these tests where that of the recording was."""
    if run["drive"] == "(source missing)":
        image = host.image()
        image.path.unlink()
    else:
        image = host.image(format=run["drive"].removeprefix("file_"))
    named = image.path.with_name(VOLUME)
    if image.path.exists():
        image.path.rename(named)
    return {**image.drive, "volumeID": VOLUME, "path": str(named)}


@pytest.mark.tools("qemu-img")
@pytest.mark.parametrize("run", RUNS, ids=[run["name"] for run in RUNS])
async def test_a_hook_run_ends_as_it_was_recorded(run: Any, host: HookHost) -> None:
    assert len(RUNS) == 9
    drive = drive_of(run, host)
    for name, before in run["lvs_before"].items():
        tags = frozenset(before["tags"])
        host.group.add(LogicalVolume(name, before["size"], tags, True, False, None, None, 4 << 20))
    custom = run["vmconf"]["custom"]
    done = await host("after_disk_prepare", custom, json.dumps(drive).encode())
    differs = custom.get("localdisk") == "zfs"
    assert (done.code == 0) == (run["error"] is None and not differs), done
    if differs:
        assert (done.code, "'zfs'" in done.words) == (2, True)
    dev = str(host.group.folder / "dev")
    changed = {key: value for key, value in done.drive.items() if drive[key] != value}
    told = json.loads(json.dumps(changed).replace(dev, "/dev"))
    assert told == (run["changed"] or {})
    assert list(done.drive) == list(drive)
    volumes = host.group.volumes()
    assert set(volumes) == set(run["lvs_after"])
    for name, after in run["lvs_after"].items():
        theirs = {tag for tag in volumes[name].tags if not tag.startswith(OURS)}
        assert theirs == set(after["tags"])
        assert volumes[name].size == after["size"]


@pytest.mark.parametrize("run", [RUNS[0]], ids=["no custom property"])
async def test_without_the_property_no_byte_changes(run: Any, host: HookHost) -> None:
    data = json.dumps(drive_of(run, host), indent=3).encode()
    for custom in ({}, {"localdisk": ""}):
        done = await host("after_disk_prepare", custom, data)
        assert (done.code, done.words, done.json) == (0, "", data)
