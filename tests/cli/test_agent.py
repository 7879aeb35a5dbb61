"""`leasehold host serve|config`: the agent as a process."""

import signal
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from host.config import Config
from protocol.client import connected
from protocol.errors import CannotConnect
from tests.agent_service import Service, agent_folder, service
from tests.cli.run import Cli
from tests.faults.command import Command, command

SLOW = {"WATCHDOG_USEC": "300000"}


@pytest.fixture
def folder() -> Iterator[Path]:
    with agent_folder() as made:
        yield made


@pytest.fixture
def leasehold(tmp_path: Path) -> Iterator[Command]:
    with command(tmp_path) as made:
        yield made


async def call(agent: Service, method: str, params: dict[str, Any] | None = None) -> Any:
    async with connected(agent.address) as host:
        return await host.call(method, params)


# --- serve ---------------------------------------------------------------------------------------


async def test_it_serves_from_when_it_says_so_until_it_is_asked_to_stop(
    leasehold: Command, folder: Path
) -> None:
    with service(leasehold, folder, environment=SLOW) as agent:
        assert await call(agent, "Host.ping2") is True
        assert stat.S_IMODE(agent.socket.stat().st_mode) == 0o600
        for _ in range(3):
            agent.manager.until("WATCHDOG=1")
        assert agent.stop() == 0
        agent.manager.until("STOPPING=1", 1.0)
        assert not agent.socket.exists()
        with pytest.raises(CannotConnect):
            await call(agent, "Host.ping2")
    await leasehold.alone()


async def test_a_loop_that_hangs_does_not_feed_the_watchdog(
    leasehold: Command, folder: Path
) -> None:
    with service(leasehold, folder, environment=SLOW) as agent:
        agent.manager.until("WATCHDOG=1")
        agent.running.signal(signal.SIGSTOP)
        agent.manager.forget()
        with pytest.raises(TimeoutError):
            agent.manager.until("WATCHDOG=1", 1.0)


async def test_ctrl_c_stops_it_too(leasehold: Command, folder: Path) -> None:
    with service(leasehold, folder) as agent:
        agent.running.signal(signal.SIGINT)
        assert (await agent.running.wait()).code == 0
    await leasehold.alone()


async def test_a_closed_terminal_does_not_stop_it(leasehold: Command, folder: Path) -> None:
    with service(leasehold, folder) as agent:
        agent.running.signal(signal.SIGHUP)
        assert await call(agent, "Host.ping2") is True
        assert not agent.running.over


async def test_there_is_one_agent_for_one_journal(leasehold: Command, folder: Path) -> None:
    with service(leasehold, folder) as agent, agent_folder() as other:
        second = await leasehold("host", "serve", "--set", f"listen.socket={other}/s", "--json")
        assert second.error["code"] == 651
        assert second.code == 6
        assert await call(agent, "Host.ping2") is True


async def test_a_second_agent_does_not_take_the_socket_of_a_living_one(
    leasehold: Command, folder: Path, tmp_path: Path
) -> None:
    with service(leasehold, folder) as agent:
        own = ("--set", f"folders.state={tmp_path}/other")
        second = await leasehold("host", "serve", *own, "--set", f"listen.socket={agent.socket}")
        assert second.code == 2
        assert "another agent listens on" in second.err
        assert await call(agent, "Host.ping2") is True


async def test_the_state_lies_in_the_home(leasehold: Command, folder: Path) -> None:
    with service(leasehold, folder):
        assert (leasehold.home / "jobs").is_dir()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["listen.socket="], "nobody could come in"),
        (["listen.plain=10.1.2.3:1"], "no loopback address"),
        (["listen.tls=*:1"], "listen.tls needs the ca"),
        (["jobs.concurrency=0"], "jobs.concurrency"),
        (["no.such=1"], "no such setting"),
        (["nonsense"], "SECTION.KEY=VALUE"),
        (["folders.state=/dev/null/x"], "/dev/null"),
        (["listen.monitor_group=no-such-group"], "no such group"),
    ],
)
async def test_what_cannot_be_is_told(
    leasehold: Command, folder: Path, settings: list[str], said: str
) -> None:
    options = [word for one in settings for word in ("--set", one)]
    ended = await leasehold("host", "serve", "--set", f"listen.socket={folder}/agent", *options)
    assert ended.code == 2, ended
    assert said in ended.err
    await leasehold.alone()


# --- config --------------------------------------------------------------------------------------


def test_the_effective_configuration_is_toml_and_can_be_read_again(
    cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "host.toml"
    file.write_text('[jobs]\nconcurrency = 7\nrate = "50M"\n')
    shown = cli("host", "config", "--config", file, "--set", "jobs.stall_time=9")
    assert shown.code == 0
    assert tomllib.loads(shown.out)["jobs"] | {"autodelete": 0} == {
        "concurrency": 7,
        "rate": "50M",
        "autodelete": 0,
        "stall_time": 9.0,
    }
    again = tmp_path / "again.toml"
    again.write_text(shown.out)
    assert cli("host", "config", "--config", again).out == shown.out


def test_with_json_it_is_one_object(cli: Cli) -> None:
    shown = cli("host", "config", "--json", "--set", "jobs.rate=50M").json
    assert shown["jobs"]["rate"] == 50 << 20
    assert shown["folders"]["state"] == str(cli.home)


def test_the_defaults_are_a_file_that_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    shown = cli("host", "config", "--defaults").out
    assert tomllib.loads(shown) == {name: {} for name in msgspec.to_builtins(Config())}


def test_a_missing_file_that_was_named_is_told(cli: Cli, tmp_path: Path) -> None:
    ended = cli("host", "config", "--config", tmp_path / "missing.toml")
    assert ended.code == 2
    assert "does not exist" in ended.err
