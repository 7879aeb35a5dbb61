"""A drive of a VM: what hooks read of it, and what they write back."""

import json
from typing import Any

import pytest

from host.hooks import drive
from host.hooks.program import Refused
from tests.hook_runs import vectors

RUNS = vectors()["hook_runs"]
EXACT = [run for run in RUNS if "json_from_hook_exact_bytes" in run]
GOOD: dict[str, Any] = vectors()["drives"]["file_cow"]["after_prepareVolumePath"]


def changed(**values: object) -> bytes:
    return json.dumps({**GOOD, **values}).encode()


@pytest.mark.parametrize("run", EXACT, ids=lambda run: run["name"])
def test_the_bytes_are_those_of_the_hook_that_we_replace(run: Any) -> None:
    assert len(EXACT) == 2
    found = drive.read(run["json_to_hook_exact_bytes"].encode())
    assert found is not None
    device = f"/dev/ovirt-local/{found.vol_id}"
    assert found.at(device) == run["json_from_hook_exact_bytes"].encode()


def test_a_drive_is_read_as_vdsm_writes_it() -> None:
    ids = vectors()["inputs"]
    found = drive.read(changed())
    assert found is not None
    assert (found.sd_id, found.img_id, found.vol_id) == (ids["sd"], ids["image"], ids["volume"])
    assert (found.path, found.format, found.managed) == (GOOD["path"], "qcow2", False)
    raw = drive.read(changed(format="raw", diskType="block"))
    assert raw is not None
    assert raw.format == "raw"


def test_a_managed_volume_is_known_as_one() -> None:
    made = vectors()["drives"]["managed_block with PDIV keys"]["after_prepareVolumePath"]
    found = drive.read(json.dumps(made).encode())
    assert found is not None
    assert found.managed


@pytest.mark.parametrize("name", ["direct_lun", "managed_block (GUID and managed=true)"])
def test_a_drive_for_which_vdsm_runs_no_hook_stays(name: str) -> None:
    made = vectors()["drives"][name]
    assert made["hook_is_called"] is False
    assert drive.read(json.dumps(made["after_prepareVolumePath"]).encode()) is None


@pytest.mark.parametrize("device", ["cdrom", "floppy"])
def test_what_is_no_disk_stays(device: str) -> None:
    assert drive.read(changed(device=device)) is None


def test_keys_that_we_do_not_know_stay_in_their_order() -> None:
    odd = {"z": [1.5, None, {"y": "\u00e9\ud800"}], "device": "disk", "a": 10**30, "": True}
    found = drive.read(json.dumps({**odd, **GOOD}).encode())
    assert found is not None
    again = json.loads(found.at("/dev/x"))
    assert list(again) == list({**odd, **GOOD})
    kept = {key: value for key, value in again.items() if value != {**odd, **GOOD}[key]}
    assert kept == {"path": "/dev/x", "format": "raw", "diskType": "block"}


@pytest.mark.parametrize("shared", ["shared", "transient", "true", True])
def test_a_disk_that_others_write_to_is_refused(shared: object) -> None:
    with pytest.raises(Refused, match="others write"):
        drive.read(changed(shared=shared))


@pytest.mark.parametrize("shared", ["none", "exclusive", "false", False, None])
def test_a_disk_of_one_vm_is_taken(shared: object) -> None:
    assert drive.read(changed(shared=shared)) is not None


UUID = GOOD["volumeID"]
BAD_IDS: list[object] = [
    None,
    "",
    0,
    ["x"],
    UUID.upper(),
    f"{UUID}\n",
    f" {UUID}",
    f"../{UUID}",
    f"-{UUID}",
    "--config",
    UUID.replace("-", ""),
    f"{UUID}/../x",
    f"{UUID}\0",
    UUID.replace("7", "\u0667"),  # a digit of another script
]


@pytest.mark.parametrize("key", ["domainID", "imageID", "volumeID"])
@pytest.mark.parametrize("value", BAD_IDS, ids=repr)
def test_an_id_that_is_none_is_refused(key: str, value: object) -> None:
    with pytest.raises(Refused, match=key):
        drive.read(changed(**{key: value}))


BAD_PATHS: list[object] = [
    None,
    "",
    "x",
    7,
    {},
    "/rhev/../etc/passwd",
    "/..",
    "/a\nb",
    "/a\0b",
    "/a\x1b[0m",
    "/a\ud800",
    "-o/x",
    "json:{}",
    "nbd:x",
    "/" + "a" * 5000,
]


@pytest.mark.parametrize("path", BAD_PATHS, ids=lambda path: repr(path)[:30])
def test_a_path_that_no_image_has_is_refused(path: object) -> None:
    with pytest.raises(Refused, match="path"):
        drive.read(changed(path=path))


@pytest.mark.parametrize("key", ["domainID", "imageID", "volumeID", "path", "format", "diskType"])
def test_a_field_that_is_missing_is_named(key: str) -> None:
    with pytest.raises(Refused, match=key):
        drive.read(json.dumps({k: v for k, v in GOOD.items() if k != key}).encode())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "vmdk"),
        ("format", []),
        ("format", None),
        ("diskType", "network"),
        ("diskType", 1),
    ],
)
def test_a_disk_of_a_kind_that_we_do_not_copy_is_refused(key: str, value: object) -> None:
    with pytest.raises(Refused, match=key):
        drive.read(changed(**{key: value}))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0",
        b"\xff\xfe",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b"{}}",
        b"[" * 100_000,
        b'{"device": "disk", "n": ' + b"9" * 10_000 + b"}",
        b'{"volumeID": ' * 5_000,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_no_drive_is_refused(text: bytes) -> None:
    with pytest.raises(Refused, match="_hook_json"):
        drive.read(text)
