"""os-brick, for drivers that are not ours: a stand-in for its package, in a Python of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.host.helpers.calls import Called, call

_PACKAGE = {
    "oslo_config/cfg.py": "CONF = 'the configuration'\n",
    "oslo_concurrency/lockutils.py": "def set_defaults(path): pass\n",
    "os_brick/__init__.py": "def setup(conf): print('noise', conf)\n",
    "os_brick/privileged.py": (
        "class default:\n"
        "    @staticmethod\n"
        "    def set_client_mode(wanted): print('in this process:', not wanted)\n"
    ),
    "os_brick/initiator/connector.py": """\
import json, os
folder = os.path.dirname(__file__)

def note(*facts):
    with open(folder + "/calls", "a") as calls:
        calls.write(json.dumps(facts) + "\\n")

def get_connector_properties(root_helper, ip, multipath, enforce_multipath):
    if os.path.exists(folder + "/broken"):
        raise RuntimeError("no properties")
    return {"nqn": "nqn.1", "initiator": "iqn.of.os.brick", "ip": "theirs"}

class Made:
    def __init__(self, driver): self.driver = driver
    def connect_volume(self, data):
        print("chatter of a library")
        note("connect", self.driver, data)
        if "bad" in data:
            raise ValueError("cannot connect: " + data["bad"])
        if "dies" in data:
            os.kill(os.getpid(), 9)
        return {"path": "/dev/dm-5", "multipath_id": "36005"}
    def disconnect_volume(self, data, attachment):
        note("disconnect", self.driver, data, attachment)

class InitiatorConnector:
    @staticmethod
    def factory(driver, root_helper, **options):
        if driver == "unheard":
            raise KeyError(driver)
        return Made(driver)
""",
}


@pytest.fixture
def brick(tmp_path: Path) -> Path:
    """An environment with the stand-in."""
    made = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True)
    [packages] = made.glob("lib/python3*/site-packages")
    (tmp_path / "package").symlink_to(packages)
    for name, text in _PACKAGE.items():
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def ask(brick: Path, command: str, told: Any = None) -> Called:
    environment = {"LEASEHOLD_MANAGED_OS_BRICK": str(brick / "environment/bin/python")}
    return call(command, told, access=brick / "access", environment=environment)


def calls(brick: Path) -> list[Any]:
    path = brick / "package/os_brick/initiator/calls"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_its_other_drivers_are_attached_by_it(brick: Path) -> None:
    told = {"driver_volume_type": "fibre_channel", "data": {"target_wwn": "5001"}}
    found = ask(brick, "attach", told).answer
    assert found == {"path": "/dev/dm-5", "multipath_id": "36005"}
    for attachment in (found, None):
        message = {"connection_info": told, "attachment": attachment}
        assert ask(brick, "detach", message).answer == {}
    assert calls(brick) == [
        ["connect", "fibre_channel", {"target_wwn": "5001"}],
        ["disconnect", "fibre_channel", {"target_wwn": "5001"}, found],
        ["disconnect", "fibre_channel", {"target_wwn": "5001"}, None],
    ]


def test_its_errors_are_told_and_not_what_it_says_beside(brick: Path) -> None:
    told = {"driver_volume_type": "lightos", "data": {"bad": "no nodes"}}
    assert ask(brick, "attach", told).failure == "os-brick: ValueError: cannot connect: no nodes"
    unheard = {"driver_volume_type": "unheard", "data": {}}
    assert ask(brick, "attach", unheard).failure == "os-brick: KeyError: 'unheard'"


def test_when_nobody_knows_what_it_has_done_the_helper_does_not_say_nothing(brick: Path) -> None:
    """A status would say that; of one that was killed the agent asks for the detach."""
    told = {"driver_volume_type": "lightos", "data": {"dies": True}}
    ended = ask(brick, "attach", told)
    assert (ended.status, ended.output) == (-9, "")
    assert "os-brick: " in ended.errors


def test_our_drivers_do_not_need_it_and_do_not_ask_it(brick: Path) -> None:
    told = {"driver_volume_type": "local", "data": {"device_path": "/dev/x"}}
    assert ask(brick, "attach", told).answer["path"] == "/dev/x"
    assert not (brick / "package/os_brick/initiator/calls").exists()


def test_what_it_tells_of_the_host_is_told_beside_ours(brick: Path) -> None:
    found = ask(brick, "connector_info").answer
    assert found["os_brick"] is True
    assert found["nqn"] == "nqn.1"
    assert found["initiator"] != "iqn.of.os.brick"  # it must be the one that we log in as
    assert found["ip"] != "theirs"


def test_without_its_properties_the_host_is_told_all_the_same(brick: Path) -> None:
    (brick / "package/os_brick/initiator/broken").touch()
    found = ask(brick, "connector_info")
    assert found.answer["initiator"].startswith("iqn.")
    assert "nqn" not in found.answer
    assert "no properties" in found.errors


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false"])
def test_without_it_its_drivers_are_told_to_need_it(tmp_path: Path, python: str) -> None:
    told = {"driver_volume_type": "lightos", "data": {}}
    environment = {"LEASEHOLD_MANAGED_OS_BRICK": python}
    failure = call("attach", told, access=tmp_path / "access", environment=environment).failure
    assert failure == f"the driver lightos needs os-brick, which {python} has not"
