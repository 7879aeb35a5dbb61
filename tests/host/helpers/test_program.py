"""The protocol of the helper programs: one word, JSON in, JSON out, 0 or a line that says why."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.host.helpers.calls import HARDWARE_ID, attach, call, detach

FILE = {"driver_volume_type": "file", "data": {"url": "nbd+unix:///vol?socket=/run/x"}}
RBD = {"driver_volume_type": "rbd", "data": {"name": "pool/disk", "hosts": ["h"], "ports": ["1"]}}
ISCSI = {"driver_volume_type": "iscsi", "data": {}}


def test_the_host_is_told_without_os_brick() -> None:
    found = call("connector_info", environment={"LEASEHOLD_MANAGED_OS_BRICK": "/nowhere"}).answer
    assert found["uuid"] == HARDWARE_ID
    assert found["os_brick"] is False
    assert found["initiator"].startswith("iqn.")
    assert type(found["multipath"]) is bool
    assert found["host"]
    assert found["ip"]
    assert {"platform", "os_type", "do_local_attach"} <= found.keys()


@pytest.mark.parametrize("command", ["", "help", "ATTACH", "attach;detach"])
def test_a_command_that_is_none_is_told(command: str) -> None:
    assert "connector_info, attach, detach" in call(command, FILE).failure


@pytest.mark.parametrize("command", ["attach", "detach"])
@pytest.mark.parametrize(
    "told",
    ["", "nonsense", "[]", "{}", '{"driver_volume_type": "file"}', "[" * 100_000, "\\ud800"],
    ids=lambda text: text[:20],
)
def test_an_input_that_is_none_is_told(command: str, told: str, tmp_path: Path) -> None:
    assert "standard input" in call(command, told, access=tmp_path / "access").failure


def test_an_input_without_end_is_not_read_whole(tmp_path: Path) -> None:
    long = {**FILE, "more": "x" * (2 << 20)}
    assert "standard input" in call("attach", long, access=tmp_path / "access").failure


@pytest.mark.parametrize(
    ("program", "refused"),
    [
        ("managedvolume-helper-file", RBD),
        ("managedvolume-helper-iscsi", FILE),
        ("managedvolume-helper-rbd", ISCSI),
        ("managedvolume-helper-tgt", FILE),
        ("managedvolume-helper-ceph", FILE),
    ],
)
def test_a_helper_of_one_driver_takes_no_other(
    program: str, refused: dict[str, Any], tmp_path: Path
) -> None:
    access = tmp_path / "access"
    wanted = "this helper attaches volumes of the driver"
    assert wanted in attach(refused, access, program=program).failure
    assert wanted in detach(refused, None, access, program=program).failure


@pytest.mark.parametrize("program", ["managedvolume-helper", "managedvolume-helper-file"])
def test_a_file_of_a_server_is_its_url(program: str, tmp_path: Path) -> None:
    found = attach(FILE, tmp_path / "access", program=program).answer
    assert found == {"type": "url", "path": "nbd+unix:///vol?socket=/run/x"}
    for attachment in (found, None):
        assert detach(FILE, attachment, tmp_path / "access", program=program).answer == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", [None, 7, "", "/etc/shadow", "iscsi://h/iqn.x:y/1", "nbd+unix:///x", "nbd://u:p@h/x"]
)
def test_a_file_has_no_other_url(url: Any, tmp_path: Path) -> None:
    told = {"driver_volume_type": "file", "data": {"url": url}}
    assert "url" in attach(told, tmp_path / "access").failure


@pytest.mark.parametrize("key", ["path", "device_path"])
def test_a_local_device_is_where_the_storage_says(key: str, tmp_path: Path) -> None:
    told = {"driver_volume_type": "local", "data": {key: "/dev/drbd7"}}
    found = attach(told, tmp_path / "access").answer
    assert found == {"type": "block", "path": "/dev/drbd7"}
    assert detach(told, found, tmp_path / "access").answer == {}
    bad = {"driver_volume_type": "local", "data": {key: "drbd7"}}
    assert "path of a device" in attach(bad, tmp_path / "access").failure


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may write below /run")
def test_a_caller_that_names_no_folder_has_one_all_the_same() -> None:
    """As a host of oVirt calls the helpers of vendors."""
    told = {"driver_volume_type": "rbd", "data": {**RBD["data"], "keyring": "K" * 20}}  # type: ignore[dict-item]
    found = call("attach", told).answer
    conf = Path(found["path"].partition(":conf=")[2].partition(":")[0].replace("\\", ""))
    assert conf.parent.parent == Path("/run/leasehold/managedvolumes")
    assert conf.stat().st_mode & 0o777 == 0o600
    assert call("attach", told).answer == found
    assert call("detach", {"connection_info": told, "attachment": found}).answer == {}
    assert not conf.parent.exists()


@pytest.mark.parametrize("step", ["begun", "done"])
@pytest.mark.parametrize("command", ["attach", "detach"])
def test_a_helper_can_be_ended_at_a_step(command: str, step: str, tmp_path: Path) -> None:
    message = FILE if command == "attach" else {"connection_info": FILE, "attachment": None}
    die = {"LEASEHOLD_DIE_AT": f"helper-{command}:{step}"}
    died = call(command, message, access=tmp_path / "access", environment=die)
    assert (died.status, died.output) == (-9, "")


@pytest.mark.parametrize("program", ["managedvolume-helper", "managedvolume-helper-file"])
def test_what_has_nothing_to_do_does_not_import_trio(program: str, tmp_path: Path) -> None:
    """A copy starts such a helper four times, and without trio it starts in half the time."""
    profile = {"PYTHONPROFILEIMPORTTIME": "1"}
    done = call("attach", FILE, access=tmp_path / "a", program=program, environment=profile)
    assert done.answer["type"] == "url"
    assert "endpoints.url" in done.errors
    assert "trio" not in done.errors
