"""`leasehold copy --host`: a copy by an agent that looks like one of our own."""

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.hosted import HostCli
from tests.cli.run import ended, until

pytestmark = pytest.mark.tools("qemu-img")

RAW = ("--source-format", "raw")


@contextmanager
def copying(
    cli: HostCli, target: Path, job_id: str, *options: object
) -> Iterator[subprocess.Popen[str]]:
    """A copy that takes 40 s, in the middle."""
    host = ("--host", cli.agent.url, "--limit", "1M", "--job-id", job_id)
    with cli.started("copy", cli.disk(40), target, *RAW, *host, *options) as process:
        until(lambda: process.poll() is not None or target.exists())
        assert process.poll() is None, ended(process)
        cli.reached(job_id, "running")
        yield process


def test_a_copy_by_an_agent_tells_what_a_local_one_tells(shared_agent: HostCli) -> None:
    source, there, here = shared_agent.disk(), shared_agent.target(), shared_agent.target()
    local = shared_agent("copy", source, here, *RAW, "--domain", shared_agent.sd, "--json")
    told = shared_agent("copy", source, there, *RAW, "--host", shared_agent.agent.url, "--json")
    assert told.code == local.code == 0
    assert there.read_bytes() == here.read_bytes() == source.read_bytes()
    moment = {"stage", "stage_progress", "eta"}
    assert set(told.json) - moment == set(local.json) - moment
    assert told.json["path_taken"] == local.json["path_taken"]
    assert not shared_agent.has_lease(told.json["lease_id"])


def test_the_lease_stays_where_that_was_asked(shared_agent: HostCli) -> None:
    ends = shared_agent.disk(), shared_agent.target()
    options = ("--host", shared_agent.agent.url, "--keep-lease", "--verify")
    told = shared_agent("copy", *ends, *RAW, *options)
    assert told.code == 0
    assert told.out.startswith("copied 1.00M in ")
    [job_id] = [word.rstrip(":") for word in told.err.split() if word.count("-") == 4][:1]
    assert shared_agent.record(job_id)["job_status"] == "SUCCEEDED"


def test_a_copy_that_fails_keeps_its_lease_and_says_how_to_look(shared_agent: HostCli) -> None:
    missing, target, job_id = shared_agent.target(), shared_agent.target(), str(uuid.uuid4())
    options = ("--host", shared_agent.agent.url, "--job-id", job_id)
    told = shared_agent("copy", missing, target, *RAW, *options)
    assert told.code == 1
    assert f"job {job_id} failed: " in told.err
    assert f"`leasehold job resolve {shared_agent.sd} {job_id} --host" in told.err
    assert shared_agent.record(job_id)["job_status"] == "FAILED"
    told = shared_agent("copy", missing, target, *RAW, *options[:2], "--json")
    assert (told.code, told.error["code"]) == (1, 4101)
    assert told.error["data"]["lease"]["metadata"]["job_status"] == "FAILED"


def test_a_copy_to_a_volume_needs_no_lease(shared_agent: HostCli) -> None:
    made = shared_agent("volume", "create", shared_agent.sd, "--size", "1M", "--json").json
    name = "/".join((made["sd_id"], made["img_id"], made["vol_id"]))
    leases = shared_agent.leases()
    told = shared_agent(
        "copy", shared_agent.disk(), name, *RAW, "--host", shared_agent.agent.url, "--json"
    )
    assert (told.code, told.json["vol_id"]) == (0, made["vol_id"])
    assert shared_agent.leases() == leases
    missing = shared_agent.target()
    told = shared_agent("copy", missing, name, *RAW, "--host", shared_agent.agent.url)
    assert told.code == 1
    assert "leasehold volume info" in told.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_aborts_the_job(shared_agent: HostCli, number: signal.Signals) -> None:
    target, job_id = shared_agent.target(), str(uuid.uuid4())
    with copying(shared_agent, target, job_id, "--json") as process:
        process.send_signal(number)
        told = ended(process)
    assert (told.code, told.error["code"]) == (4, 443)
    assert told.error["data"]["job"]["status"] == "aborted"
    assert told.error["data"]["lease"]["metadata"]["job_status"] == "FAILED"
    assert "stopping: " in told.err
    assert shared_agent.info(job_id)["status"] == "aborted"


def test_a_second_signal_leaves_the_job_to_its_host(own_agent: HostCli) -> None:
    """The agent stands still, and so it does not answer the first one."""
    target, job_id = own_agent.target(), str(uuid.uuid4())
    with copying(own_agent, target, job_id, "--json") as process:
        assert own_agent.agent.service is not None
        os.kill(own_agent.agent.service.pid, signal.SIGSTOP)
        try:
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            while "stopping: " not in process.stderr.readline():
                pass
            process.send_signal(signal.SIGINT)
            told = ended(process)
        finally:
            os.kill(own_agent.agent.service.pid, signal.SIGCONT)
    assert (told.code, told.error["code"]) == (4, 443)
    assert f"leasehold job show {job_id}" in told.error["data"]["look"]
    assert own_agent.info(job_id)["status"] in ("running", "aborting", "aborted")


def written(target: Path) -> bool:
    """Has the copy begun to write? Before that its command may not even have come to the agent."""
    return target.exists() and target.stat().st_blocks > 0


def test_a_restart_of_the_agent_does_not_disturb_the_copy(own_agent: HostCli) -> None:
    source, target = own_agent.disk(12), own_agent.target()
    options = ("--host", own_agent.agent.url, "--limit", "3M", "--json")
    with own_agent.started("copy", source, target, *RAW, *options) as process:
        until(lambda: process.poll() is not None or written(target))
        own_agent.agent.kill()
        own_agent.agent.start()
        told = ended(process)
    assert told.code == 0, told
    assert told.json["status"] == "done"
    assert target.read_bytes() == source.read_bytes()
    assert not own_agent.has_lease(told.json["job_id"])


def test_a_copy_whose_agent_stays_away_goes_on_without_us(own_agent: HostCli) -> None:
    target, job_id = own_agent.target(), str(uuid.uuid4())
    with copying(own_agent, target, job_id, "--timeout", 1) as process:
        own_agent.agent.kill()
        told = ended(process)
    assert told.code == 5
    assert f"job {job_id} goes on without us" in told.err
    assert f"leasehold job show {job_id} --host {own_agent.agent.url}" in told.err
    assert own_agent("lease", "status", own_agent.sd, job_id, "--json").json["owners"] == [1]
    own_agent.agent.start()
    own_agent.abort(job_id)


def test_a_job_that_its_host_forgets_is_unresolved(own_agent: HostCli) -> None:
    target, job_id = own_agent.target(), str(uuid.uuid4())
    with copying(own_agent, target, job_id, "--json", "--timeout", 30) as process:
        own_agent.agent.kill()
        journal = own_agent.disks.parent / "state" / "jobs" / job_id
        journal.rename(own_agent.disks.parent / "lost")
        own_agent.agent.start()
        told = ended(process)
    assert (told.code, told.error["code"]) == (7, 66)
    assert f"leasehold job resolve {own_agent.sd} {job_id}" in told.error["data"]["look"]


@pytest.mark.parametrize(
    "option",
    [("--dry-run",), ("--allow", "/tmp"), ("--store", "embedded"), ("--stall-timeout", "5")],
    ids=lambda one: one[0],
)
def test_what_the_host_decides_is_not_asked_of_it(
    shared_agent: HostCli, option: tuple[str, ...]
) -> None:
    ends = shared_agent.disk(), shared_agent.target()
    told = shared_agent("copy", *ends, *RAW, "--host", shared_agent.agent.url, *option, "--json")
    assert (told.code, told.error["data"]["name"]) == (2, option[0])
    assert not ends[1].exists()


def test_an_agent_is_used_only_when_it_is_named(shared_agent: HostCli) -> None:
    """LEASEHOLD_HOST is set, but what is copied here is copied by us."""
    source, target = shared_agent.disk(), shared_agent.target()
    told = shared_agent("copy", source, target, "--domain", shared_agent.sd, "--json")
    assert told.code == 0
    assert shared_agent("job", "show", told.json["job_id"]).code == 3


def test_without_an_agent_nothing_is_copied(shared_agent: HostCli) -> None:
    ends = shared_agent.disk(), shared_agent.target()
    told = shared_agent("copy", *ends, *RAW, "--host", f"unix:{shared_agent.home}/none", "--json")
    assert (told.code, told.error["code"]) == (5, 4107)
    assert not ends[1].exists()


def test_progress_of_a_copy_by_an_agent_is_shown(shared_agent: HostCli) -> None:
    ends = shared_agent.disk(6), shared_agent.target()
    options = ("--host", shared_agent.agent.url, "--limit", "1M")
    told = shared_agent("copy", *ends, *RAW, *options)
    assert told.code == 0
    lines = [line for line in told.err.splitlines() if "of 6.00M" in line]
    assert 1 <= len(lines) <= 4, told.err
    quiet = shared_agent("copy", shared_agent.disk(), ends[1], *RAW, *options[:2], "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
