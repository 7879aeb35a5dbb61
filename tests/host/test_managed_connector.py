"""What the host can attach, and what it tells of itself."""

import json
from pathlib import Path
from socket import gethostname

import pytest
import trio
import trio.testing

from host import managed_connector
from host.config import Config, Identity
from host.managed_connector import BAD_TIME, GOOD_TIME, Connector
from host.managed_helpers import Helpers
from protocol.errors import ToolFailed, ToolMissing
from tests.managed_host import HARDWARE_ID, Host


@pytest.fixture
async def connector(tmp_path: Path) -> Connector:
    return (await Host.made(tmp_path)).volumes.connector


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for our own helper, which counts its calls; it tells what is in `told`."""
    program = tmp_path / "ours" / "managedvolume-helper"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho $1 >> {tmp_path}/calls\ncat {tmp_path}/told || exit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(managed_connector, "OURS", program.parent)
    (tmp_path / "told").write_text('{"initiator": "iqn.x", "os_brick": false}')
    return tmp_path


def calls(ours: Path) -> int:
    lines = (ours / "calls").read_text().splitlines()
    assert set(lines) == {"connector_info"}
    return len(lines)


async def test_the_real_helper_tells_who_the_host_is(connector: Connector) -> None:
    info = await connector.info()
    assert info["uuid"] == HARDWARE_ID
    assert "os_brick" not in info
    assert "local" in await connector.drivers()


async def test_storage_knows_a_host_by_the_name_that_is_configured() -> None:
    """Two agents of one machine are two hosts."""
    identity = Identity(name="host-a", initiator="iqn.2026-11.test:a")
    named = Helpers.of(Config(identity=identity), HARDWARE_ID)
    assert (await Connector(named).info())["initiator"] == "iqn.2026-11.test:a"
    assert (await Connector(named).info())["host"] == "host-a"
    assert (await Connector(Helpers.of(Config(), HARDWARE_ID)).info())["host"] == gethostname()


async def test_what_was_told_is_kept_for_a_while(
    connector: Connector, ours: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(connector.info)
            nursery.start_soon(connector.drivers)
    assert await connector.info() == {"initiator": "iqn.x"}
    assert calls(ours) == 1
    mock_clock.jump(GOOD_TIME - 1)
    await connector.info()
    assert calls(ours) == 1
    mock_clock.jump(2)
    await connector.info()
    assert calls(ours) == 2


@pytest.mark.parametrize("told", ["", "[]", "nonsense", None])
async def test_a_helper_that_fails_is_asked_again_soon(
    connector: Connector, ours: Path, told: str | None, mock_clock: trio.testing.MockClock
) -> None:
    if told is None:
        (ours / "told").unlink()
    else:
        (ours / "told").write_text(told)
    assert (await connector.info(), await connector.drivers()) == ({}, [])
    assert calls(ours) == 1
    (ours / "told").write_text('{"initiator": "iqn.y"}')
    mock_clock.jump(BAD_TIME + 1)
    assert await connector.info() == {"initiator": "iqn.y"}


async def test_an_installation_without_helpers_can_attach_nothing(
    connector: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managed_connector, "OURS", Path("/nowhere"))
    assert (await connector.info(), await connector.drivers()) == ({}, [])


@pytest.mark.parametrize("os_brick", [True, False])
async def test_the_drivers_are_those_that_something_here_knows(
    connector: Connector, ours: Path, monkeypatch: pytest.MonkeyPatch, os_brick: bool
) -> None:
    (ours / "told").write_text(json.dumps({"os_brick": os_brick}))

    async def info(node: dict[str, str]) -> None:
        if node["driver"] == "rbd":
            raise ToolFailed("qemu-img", 1, "Unknown driver 'rbd'")
        raise ToolFailed("qemu-img", 1, "Need all of transport, portal and target options")

    monkeypatch.setattr("processes.qemu_img.info", info)
    ours_alone = ["iscsi", "local", "file"]
    with_os_brick = ["iscsi", "lightos", "local", "storpool", "file"]
    assert await connector.drivers() == (with_os_brick if os_brick else ours_alone)


async def test_without_qemu_only_devices_can_be_attached(
    connector: Connector, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def info(node: dict[str, str]) -> None:
        raise ToolMissing("qemu-img", "qemu-utils")

    monkeypatch.setattr("processes.qemu_img.info", info)
    assert await connector.drivers() == ["local"]
