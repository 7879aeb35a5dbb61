"""What `leasehold host join` and `leave` tell the agent that runs on the same host."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli import own_agent
from cli.output import Output
from protocol.client import HostError
from protocol.errors import AcquireHostIdFailure, BadParameter, StorageDomainDoesNotExist
from tests.agent_service import agent_folder, service
from tests.cli.run import Cli, Ended, until
from tests.engine.stand_in import StandIn, stand_in
from tests.faults.command import command
from tests.sanlock_hosts import IO_TIMEOUT, Host, running
from tests.servers import WAIT

SD = "11111111-2222-4333-8444-555555555555"


# --- an agent that says what the test wants -----------------------------------------------------


@pytest.fixture
async def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StandIn]:
    async with stand_in(tmp_path) as made:
        monkeypatch.setenv("LEASEHOLD_HOST", made.url)
        yield made


async def test_the_agent_is_told_what_was_joined_where_and_as_which_host(
    agent: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    await own_agent.joined(SD, f"/mnt/{SD}", 7, Output())
    params = {"storagedomainID": SD, "path": "/mnt", "host_id": 7}
    assert agent.asked == [("StorageDomain.activate", params)]
    assert "joins it again by itself from now on" in capfd.readouterr().err


async def test_an_agent_that_refuses_what_was_joined_is_a_warning_with_its_reason(
    agent: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    agent.answers["StorageDomain.activate"] = BadParameter("path", "/mnt is not allowed here")
    await own_agent.joined(SD, f"/mnt/{SD}", 7, Output(quiet=True))
    told = capfd.readouterr().err
    assert "does not join it again by itself" in told
    assert "/mnt is not allowed here" in told


async def test_an_agent_that_has_died_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async with stand_in(tmp_path) as made:
        pass  # its socket stays
    assert os.path.exists(made.path)
    monkeypatch.setenv("LEASEHOLD_HOST", made.url)
    await own_agent.joined(SD, f"/mnt/{SD}", 7, Output())
    assert "does not join it again by itself" in capfd.readouterr().err
    await own_agent.leaves(SD, Output())
    assert "may join it again" in capfd.readouterr().err


async def test_where_no_agent_is_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEASEHOLD_HOST", f"unix:{tmp_path}/none")
    await own_agent.joined(SD, f"/mnt/{SD}", 7, Output())
    await own_agent.leaves(SD, Output())
    assert capfd.readouterr().err == ""


async def test_the_agent_of_another_host_is_not_told(
    agent: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_agent, "HERE", agent.url)
    monkeypatch.setenv("LEASEHOLD_HOST", "tls://other.example.com")
    await own_agent.joined(SD, f"/mnt/{SD}", 7, Output())
    assert [method for method, _ in agent.asked] == ["StorageDomain.activate"]  # ours


async def test_an_agent_leaves_first_and_what_it_does_not_know_is_no_error(agent: StandIn) -> None:
    agent.answers["StorageDomain.deactivate"] = StorageDomainDoesNotExist(SD)
    await own_agent.leaves(SD, Output())
    assert agent.asked == [("StorageDomain.deactivate", {"storagedomainID": SD})]


async def test_an_agent_that_refuses_to_leave_is_obeyed(agent: StandIn) -> None:
    """It would join again."""
    agent.answers["StorageDomain.deactivate"] = AcquireHostIdFailure(SD, "leave", "jobs hold it")
    with pytest.raises(HostError, match="jobs hold it"):
        await own_agent.leaves(SD, Output())


# --- a real one ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site(Cli):
    """The command on a host with a sanlock daemon, and an agent. state: the folder of the agent."""

    daemon: Host
    url: str
    state: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **self.daemon.environment, "LEASEHOLD_HOST": self.url}

    def ok(self, *arguments: object) -> Ended:
        done = self(*arguments)
        assert done.code == 0, done
        return done

    def shared(self, mount: Path) -> str:
        """A new domain of sanlock; its id."""
        options = ("--store", "sanlock", "--io-timeout", IO_TIMEOUT, "--leases", 1, "--json")
        return str(self.ok("domain", "create", mount, *options).json["id"])

    def remembered(self) -> dict[str, int]:
        """As which host the agent joins what."""
        path = self.state / "agent-domains.json"
        found: dict[str, int] = json.loads(path.read_text())["host_ids"] if path.exists() else {}
        return found

    def joined_as(self, sd: str) -> tuple[int | None, int | None]:
        """With which host id; and how often it has joined."""
        told = self.ok("host", "status", sd, "--json").json
        return told["host_id"], told["generation"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        commands = stack.enter_context(command(tmp_path))
        short = stack.enter_context(agent_folder())
        daemon = stack.enter_context(running("host1", short, 1))
        state = tmp_path / "state"
        made = stack.enter_context(
            service(
                commands,
                short,
                f"folders.state={state}",
                "storage.require_watchdog=false",
                environment=daemon.environment,
            )
        )
        yield Site(commands.home, daemon, made.url, state)


@pytest.mark.tools("sanlock", "setpriv")
def test_an_agent_is_told_what_a_command_has_joined_and_what_it_has_left(
    site: Site, tmp_path: Path
) -> None:
    sd = site.shared(tmp_path / "mnt")
    told = site.ok("host", "join", sd, "--host-id", 4, "--no-watchdog")
    assert "joins it again by itself" in told.err
    assert site.remembered() == {sd: 4}
    site.ok("host", "leave", sd)
    assert site.remembered() == {}
    assert site.joined_as(sd) == (None, None)


@pytest.mark.full
@pytest.mark.tools("sanlock", "setpriv")
def test_an_agent_joins_again_what_a_command_has_joined(site: Site, tmp_path: Path) -> None:
    sd = site.shared(tmp_path / "mnt")
    site.ok("host", "join", sd, "--host-id", 4, "--no-watchdog")
    path = Path(site.ok("domain", "info", sd, "--json").json["path"], "dom_md", "ids")
    space = f"{sd.encode()!r}, 4, {str(path)!r}"
    assert site.daemon.begin(f"rem_lockspace({space})").wait(WAIT) == 0
    assert until(lambda: site.joined_as(sd) == (4, 2))
