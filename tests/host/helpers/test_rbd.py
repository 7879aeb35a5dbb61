"""Ceph images: their urls, and devices of a kernel that has rbd."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from endpoints.url import RbdUrl, parse
from host.helpers import rbd
from host.helpers.failure import Failed, Unsure
from processes import krbd
from processes.tool import Limits
from protocol.errors import ToolFailed

KEY = "AQBHCbtT6APDHhAAD5W00cBchwkQjh3dkKsyPw=="
DATA = {
    "name": "volumes/volume-1",
    "hosts": ["10.0.0.1", "fd00::2"],
    "ports": ["6789", 6789],
    "auth_enabled": True,
    "auth_username": "host1",
    "keyring": f"[client.host1]\n\tkey = {KEY}\n",
}


@pytest.fixture
def access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(krbd, "SYSFS", tmp_path / "no-such-bus")
    return tmp_path / "access"


async def test_an_image_is_its_url_and_its_files(access: Path) -> None:
    found = await rbd.attach(DATA, access)
    assert found["type"] == "url"
    url = parse(found["path"])
    assert isinstance(url, RbdUrl)
    conf, keyring = access / "ceph.conf", access / "keyring"
    given = (("id", "host1"), ("conf", str(conf)), ("keyring", str(keyring)))
    assert url == RbdUrl("volumes", "", "volume-1", given)
    assert KEY not in found["path"]
    assert keyring.read_text() == DATA["keyring"]
    assert conf.read_text().splitlines() == [
        "[global]",
        "mon host = 10.0.0.1:6789,[fd00::2]:6789",
        "client mount timeout = 20",
        f"keyring = {keyring}",
    ]
    for path in (conf, keyring):
        assert path.stat().st_mode & 0o777 == 0o600
    assert await rbd.attach(DATA, access) == found
    await rbd.detach(DATA, found, access)
    assert not access.exists()
    await rbd.detach(DATA, None, access)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"ports": []}, "mon host = 10.0.0.1,[fd00::2]"),
        ({"hosts": ["a", "[::1]"], "ports": ["1", "2"]}, "mon host = a:1,[::1]:2"),
        ({"mon_host": "[v2:10.0.0.1:3300,v1:10.0.0.1:6789]"},
         "mon host = [v2:10.0.0.1:3300,v1:10.0.0.1:6789]"),
        ({"auth_enabled": False}, "auth client required = none"),
    ],
)  # fmt: skip
async def test_monitors_are_told_in_several_words(
    access: Path, more: dict[str, Any], line: str
) -> None:
    await rbd.attach({**DATA, **more}, access)
    assert line in (access / "ceph.conf").read_text().splitlines()


async def test_a_key_alone_becomes_a_keyring(access: Path) -> None:
    await rbd.attach({**DATA, "keyring": f" {KEY}\n"}, access)
    assert (access / "keyring").read_text() == f"[client.host1]\n\tkey = {KEY}\n"


async def test_without_a_keyring_that_of_the_host_is_used(access: Path) -> None:
    for nothing in (None, ""):
        found = await rbd.attach({**DATA, "keyring": nothing}, access)
        assert os.listdir(access) == ["ceph.conf"]
        assert "keyring=" not in found["path"]
        assert "keyring =" not in (access / "ceph.conf").read_text()


async def test_a_name_space_is_part_of_the_name(access: Path) -> None:
    found = await rbd.attach({**DATA, "name": "volumes/tenant/volume-1"}, access)
    url = parse(found["path"])
    assert isinstance(url, RbdUrl)
    assert (url.pool, url.namespace, url.image) == ("volumes", "tenant", "volume-1")


@pytest.mark.parametrize(
    "more",
    [
        {"name": None},
        {"name": "volume"},
        {"name": "pool/vol:conf=/etc/shadow"},
        {"name": "pool/vol@snapshot"},
        {"name": "a/b/c/d"},
        {"auth_username": 7},
        {"auth_username": "joe:keyring=/x"},
        {"hosts": []},
        {"hosts": "10.0.0.1"},
        {"hosts": ["10.0.0.1"], "ports": ["1", "2"]},
        {"hosts": ["10.0.0.1\nlog file = /etc/passwd", "b"]},
        {"ports": ["1", "x"]},
        {"mon_host": "10.0.0.1\nlog file = /etc/passwd"},
        {"mon_host": 7},
        {"keyring": 7},
    ],
    ids=str,
)
async def test_what_cannot_be_understood_is_told(access: Path, more: dict[str, Any]) -> None:
    with pytest.raises(Failed):
        await rbd.attach({**DATA, **more}, access)
    assert not access.exists()


# --- devices ----------------------------------------------------------------------------------

_RBD = """\
#!{python} -I
import json, pathlib, shutil, sys
bus = pathlib.Path({bus!r})
with open({calls!r}, "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1] == "map":
    *spaces, name = sys.argv[2].split("/")
    number = len(list((bus / "devices").iterdir()))
    made = bus / "devices" / str(number)
    made.mkdir()
    told = {{"pool": spaces[0], "pool_ns": "".join(spaces[1:]), "name": name, "current_snap": "-"}}
    for key, value in told.items():
        (made / key).write_text(value + "\\n")
    print(f"/dev/rbd{{number}}")
elif (bus / "busy").exists():
    sys.exit("rbd: sysfs write failed\\nrbd: unmap failed: (16) Device or resource busy")
else:
    shutil.rmtree(bus / "devices" / sys.argv[2].removeprefix("/dev/rbd"))
"""


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's part, played: the bus in sysfs, and the program that writes to it."""
    made = tmp_path / "bus"
    (made / "devices").mkdir(parents=True)
    program = tmp_path / "bin" / "rbd"
    program.parent.mkdir()
    python = os.path.realpath(sys.executable)
    text = _RBD.format(python=python, bus=str(made), calls=str(tmp_path / "calls"))
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(krbd, "SYSFS", made)
    return made


async def test_a_kernel_with_rbd_makes_the_image_a_device(bus: Path, tmp_path: Path) -> None:
    access = tmp_path / "access"
    other = {**DATA, "name": "volumes/volume-2"}
    assert (await rbd.attach(other, tmp_path / "other"))["path"] == "/dev/rbd0"
    found = await rbd.attach(DATA, access)
    assert found == {"type": "block", "path": "/dev/rbd1"}
    assert await rbd.attach(DATA, access) == found  # once more is the same
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls[1:] == [
        ["map", "volumes/volume-1", "--conf", f"{access}/ceph.conf", "--id", "host1",
         "--keyring", f"{access}/keyring"],
    ]  # fmt: skip
    assert KEY not in json.dumps(calls)
    await rbd.detach(DATA, found, access)
    assert os.listdir(bus / "devices") == ["0"]
    assert not access.exists()
    await rbd.detach(DATA, found, access)
    assert os.listdir(bus / "devices") == ["0"]


async def test_an_attach_that_was_cut_off_is_found_by_the_image(bus: Path, tmp_path: Path) -> None:
    await rbd.attach(DATA, tmp_path / "access")
    await rbd.detach(DATA, None, tmp_path / "access")
    assert os.listdir(bus / "devices") == []


async def test_a_number_that_is_used_by_another_image_is_not_unmapped(
    bus: Path, tmp_path: Path
) -> None:
    await rbd.attach({**DATA, "name": "volumes/volume-2"}, tmp_path / "other")
    await rbd.detach(DATA, {"type": "block", "path": "/dev/rbd0"}, tmp_path / "access")
    assert os.listdir(bus / "devices") == ["0"]


async def test_a_device_that_somebody_else_has_made_of_it_stays(bus: Path, tmp_path: Path) -> None:
    found = await rbd.attach(DATA, tmp_path / "access")
    shutil.copytree(bus / "devices" / "0", bus / "devices" / "1")
    await rbd.detach(DATA, found, tmp_path / "access")
    assert os.listdir(bus / "devices") == ["1"]


async def test_a_device_that_is_open_stays_and_so_do_its_files(bus: Path, tmp_path: Path) -> None:
    found = await rbd.attach(DATA, tmp_path / "access")
    (bus / "busy").touch()
    with pytest.raises(ToolFailed, match="Device or resource busy"):
        await rbd.detach(DATA, found, tmp_path / "access")
    assert (tmp_path / "access" / "keyring").exists()
    (bus / "busy").unlink()
    await rbd.detach(DATA, found, tmp_path / "access")
    assert os.listdir(bus / "devices") == []


@pytest.mark.parametrize("end", ["echo mapped", "kill -9 $$", "sleep 600"])
async def test_what_may_have_become_a_device_is_not_said_to_be_none(
    bus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """The kernel goes on when the program that asked it does not."""
    monkeypatch.setattr(krbd, "TIME", Limits(seconds=1.0))
    program = tmp_path / "bin" / "rbd"
    usual = program.with_name("usual")
    program.rename(usual)
    program.write_text(f'#!/bin/sh\n"{usual}" "$@" >/dev/null\n{end}\n')
    program.chmod(0o755)
    with pytest.raises(Unsure):
        await rbd.attach(DATA, tmp_path / "access")
    assert os.listdir(bus / "devices") == ["0"]
    usual.rename(program)
    await rbd.detach(DATA, None, tmp_path / "access")
    assert os.listdir(bus / "devices") == []


class Died(BaseException):
    """Nothing of the helper goes on."""


@pytest.mark.parametrize("step", ["helper-attach:access", "helper-attach:map"])
async def test_a_helper_that_dies_in_an_attach_can_be_asked_to_detach_or_again(
    bus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    access = tmp_path / "access"
    for again in (False, True):
        with monkeypatch.context() as patch:
            dying(patch, step)
            with pytest.raises(Died):
                await rbd.attach(DATA, access)
        if again:
            assert (await rbd.attach(DATA, access))["path"] == "/dev/rbd0"
        await rbd.detach(DATA, None, access)
        assert (os.listdir(bus / "devices"), access.exists()) == ([], False)


async def test_a_helper_that_dies_in_a_detach_can_be_asked_once_more(
    bus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = tmp_path / "access"
    found = await rbd.attach(DATA, access)
    with monkeypatch.context() as patch:
        dying(patch, "helper-detach:unmap")
        with pytest.raises(Died):
            await rbd.detach(DATA, found, access)
    await rbd.detach(DATA, found, access)
    assert (os.listdir(bus / "devices"), access.exists()) == ([], False)


def dying(monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    def reached(verb: str, step: str) -> None:
        if f"{verb}:{step}" == at:
            raise Died

    monkeypatch.setattr(rbd, "reached", reached)


async def test_a_snapshot_or_an_image_of_a_name_space_is_another(bus: Path) -> None:
    one = bus / "devices" / "0"
    one.mkdir()
    for key, value in {"pool": "p", "name": "i", "current_snap": "s"}.items():
        (one / key).write_text(value)
    assert krbd.devices("p", "", "i") == []
    (one / "current_snap").write_text("-\n")
    assert krbd.devices("p", "", "i") == ["/dev/rbd0"]  # no pool_ns: an older kernel
    (one / "pool_ns").write_text("n\n")
    assert krbd.devices("p", "", "i") == []
    assert krbd.devices("p", "n", "i") == ["/dev/rbd0"]
