"""`leasehold host serve|config`: the agent as a process."""

import json
import signal
import stat
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from host.config import Config
from protocol.client import HostError, connected
from protocol.errors import CannotConnect
from tests.agent_service import Service, agent_folder, service
from tests.cli.run import Cli
from tests.faults.command import Command, command, until
from tests.servers import MIB, pattern, raw_image

JSON = {"LEASEHOLD_LOG_FORMAT": "json"}
SIZE = 32 * MIB
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
        (["listen.plain=127.0.0.1:65536"], "listen.plain"),
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


async def test_metrics_and_health_are_told_where_they_are_configured(
    leasehold: Command, folder: Path
) -> None:
    with service(leasehold, folder, "listen.metrics=127.0.0.1:0", environment=JSON) as agent:
        await call(agent, "Host.ping2")
        [ready] = [one for one in agent.records if one["event"] == "ready"]
        [address] = ready["metrics"]
        told = await trio.to_thread.run_sync(got, f"http://{address}/metrics")
        assert 'leasehold_calls_total{code="0",method="Host.ping2"} 1.0' in told
        assert json.loads(await trio.to_thread.run_sync(got, f"http://{address}/health"))["status"]
        assert agent.stop() == 0


async def test_every_line_of_the_log_is_json_with_the_flow(
    leasehold: Command, folder: Path
) -> None:
    with service(leasehold, folder, environment=JSON) as agent:
        async with connected(agent.address) as host:
            with pytest.raises(HostError):
                await host.call("Job.info", {"job_id": "x"}, flow_id="flow-7")
        agent.stop()
        assert any(one.get("flow_id") == "flow-7" for one in agent.records)


def got(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


# --- drain, resume -------------------------------------------------------------------------------


async def test_a_drained_host_starts_no_job_until_it_is_resumed(
    leasehold: Command, folder: Path, tmp_path: Path
) -> None:
    await leasehold.prepared()
    source = raw_image(tmp_path / "source.raw", SIZE, data=pattern(SIZE))
    with service(leasehold, folder, f"storage.mounts={leasehold.home}/leases") as agent:
        at = ("--host", agent.url)

        async def submitted(name: str, *options: str) -> str:
            ends = (source, raw_image(tmp_path / name, SIZE), "--source-format", "raw")
            ended = await leasehold("job", "submit", *ends, *options, *at, "--json")
            return str(ended.json["job_id"])

        slow = await submitted("slow", "--limit", "1M")
        drained = await leasehold("host", "drain", "--wait", "0.1", *at, "--json")
        assert (drained.code, drained.error["kind"]) == (6, "NotDrained")
        assert drained.error["data"]["running"] == 1
        waiting = await submitted("waiting")
        with leasehold.started("host", "drain", *at) as draining:
            await until(lambda: "waiting for the 1 that run" in draining.err.read_text())
            assert not draining.over
            await call(agent, "Job.abort", {"job_id": slow})
            assert (await draining.wait()).code == 0
        assert (await call(agent, "Job.info", {"job_id": waiting}))["status"] == "pending"
        assert (await leasehold("host", "resume", *at)).code == 0
        assert (await leasehold("job", "watch", waiting, *at)).code == 0
        assert source.read_bytes() == (tmp_path / "waiting").read_bytes()


async def test_without_an_agent_there_is_nothing_to_drain(leasehold: Command, folder: Path) -> None:
    for word in ("drain", "resume"):
        ended = await leasehold("host", word, "--host", f"unix:{folder}/none", "--json")
        assert (ended.code, ended.error["kind"]) == (5, "CannotConnect")


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
    assert tomllib.loads(shown) == {name: {} for name in Config.__struct_fields__}


def test_a_missing_file_that_was_named_is_told(cli: Cli, tmp_path: Path) -> None:
    ended = cli("host", "config", "--config", tmp_path / "missing.toml")
    assert ended.code == 2
    assert "does not exist" in ended.err
