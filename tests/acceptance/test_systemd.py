"""The units of systemd, with a real systemd: what ends with the agent, and what with the host."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host.worker import NAME as WORKER
from leases import ids
from leases.geometry import DEFAULT
from tests.systemd_host import HOST_TOOLS, Booted, booted, until

TOP = Path(__file__).parents[2]
UNITS = TOP / "packaging" / "systemd"
AGENT = "leasehold-agent"
WORKERS = "leasehold-workers"
CONFIG = "/etc/leasehold/host.toml"
HOST_TOML = """\
[storage]
mounts = ["/srv/leasehold"]
require_watchdog = false
[endpoints]
directories = ["/srv/disks"]
"""

TOOLS = (*HOST_TOOLS, "systemd-analyze", "pkill", "pidwait", "qemu-img")


@pytest.fixture
def host() -> Iterator[Booted]:
    """With leasehold installed, a storage domain and a disk; the agent does not run yet."""
    with booted() as host:
        host(TOP / "scripts" / "install")
        host.write(CONFIG, HOST_TOML)
        host("mkdir", "/srv/disks")
        host("sh", "-c", "head -c 64M /dev/urandom > /srv/disks/source")
        yield host


def begin(host: Booted, rate: str = "2M") -> str:
    """Begin a copy that takes a while; the id of the job, whose worker writes."""
    submitted = ("job", "submit", "/srv/disks/source", "/srv/disks/target")
    job_id = host("leasehold", *submitted, "--source-format", "raw", "--limit", rate, "--quiet")
    until(lambda: show(host, job_id).get("bytes"), lambda: host.log)
    return job_id


def show(host: Booted, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host("leasehold", "job", "show", job_id, "--json"))
    return found


def domain(host: Booted, *options: object) -> str:
    made = host(
        "leasehold", "domain", "create", "/srv/leasehold", "--leases", 5, *options, "--json"
    )
    return str(json.loads(made)["id"])


def record(host: Booted, sd_id: str, job_id: str) -> str:
    told = json.loads(host("leasehold", "lease", "status", sd_id, job_id, "--json"))
    return str(told["metadata"]["job_status"])


def test_systemd_can_read_the_units(tmp_path: Path) -> None:
    """As they are, but for the command, which need not be installed here."""
    for path in [*UNITS.glob("*.service"), *UNITS.glob("*/*.conf")]:
        copy = tmp_path / path.relative_to(UNITS)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text().replace("/usr/local/bin/leasehold", "/bin/true"))
    names = [path.name for path in UNITS.glob("*.service")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names, "sanlock.service"],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.tools(*TOOLS)
def test_a_copy_goes_on_while_the_agent_is_restarted_killed_and_stopped(host: Booted) -> None:
    domain(host)
    host("systemctl", "enable", "--now", AGENT)
    job_id = begin(host, "3M")
    [worker] = host.named(WORKER)
    for what, state in (
        (("restart", AGENT), "running"),
        (("kill", "--kill-whom=main", "--signal=KILL", AGENT), "running"),
        (("stop", AGENT), "dead"),
    ):
        before = host.property(AGENT, "MainPID")
        host("systemctl", *what)
        host.reaches(AGENT, state, other_than=before)
        assert host.named(WORKER) == [worker], what
    assert host.property(WORKERS, "ActiveState") == "active"
    host("systemctl", "start", AGENT)
    assert show(host, job_id)["status"] == "running"
    host("leasehold", "job", "watch", job_id)
    assert show(host, job_id)["status"] == "done"
    host("cmp", "/srv/disks/source", "/srv/disks/target")


@pytest.mark.tools(*TOOLS)
def test_an_agent_that_hangs_is_started_anew_and_the_copy_goes_on(host: Booted) -> None:
    domain(host)
    host.change(AGENT, "[Service]\nWatchdogSec=1\nTimeoutAbortSec=1\n")
    host("systemctl", "start", AGENT)
    job_id = begin(host)
    [worker] = host.named(WORKER)
    host("systemctl", "kill", "--kill-whom=main", "--signal=STOP", AGENT)
    until(lambda: host.property(AGENT, "NRestarts") == "1", lambda: host.log)
    until(lambda: host.property(AGENT, "ActiveState") == "active", lambda: host.log)
    assert host.named(WORKER) == [worker]
    assert show(host, job_id)["status"] == "running"


@pytest.mark.tools(*TOOLS)
def test_an_agent_with_a_bad_configuration_is_not_tried_again(host: Booted) -> None:
    host("sh", "-c", f"echo nonsense >> {CONFIG}")
    host("systemctl", "start", AGENT, check=False)
    assert host.property(AGENT, "ActiveState") == "failed"
    assert host.property(AGENT, "NRestarts") == "0"
    assert CONFIG in host.log


@pytest.mark.tools(*TOOLS)
def test_to_stop_the_workers_ends_the_agent_and_every_copy_in_order(host: Booted) -> None:
    sd_id = domain(host)
    host("systemctl", "start", AGENT)
    job_id = begin(host)
    host("systemctl", "stop", WORKERS)
    assert host.property(AGENT, "ActiveState") == "inactive"
    assert host.named(WORKER) == host.named("qemu-img") == []
    assert record(host, sd_id, job_id) == "FAILED"
    host("systemctl", "start", AGENT)
    assert show(host, job_id)["status"] == "aborted"


@pytest.mark.tools(*TOOLS)
def test_a_worker_that_does_not_end_in_time_is_killed_with_its_tools(host: Booted) -> None:
    sd_id = domain(host)
    host.change(WORKERS, "[Service]\nTimeoutStopSec=1\n")
    host("systemctl", "start", AGENT)
    job_id = begin(host)
    host("pkill", "--signal", "STOP", "--exact", WORKER)
    host("systemctl", "stop", WORKERS)
    until(lambda: not host.named(WORKER) and not host.named("qemu-img"))
    assert record(host, sd_id, job_id) == "PENDING"


@pytest.mark.tools(*TOOLS, "sanlock")
def test_when_the_host_stops_copies_end_first_and_the_lockspace_is_left_in_order(
    host: Booted,
) -> None:
    """So that the other hosts need not wait until this one is dead to them."""
    (host.folder / "units" / "sanlock.service").write_text(
        Path("/lib/systemd/system/sanlock.service").read_text()
    )
    told = host.folder / "told"
    packaged = (UNITS / "sanlock.service.d" / "leasehold.conf").read_text().splitlines()
    [leave] = [line for line in packaged if line.startswith("ExecStop=")]
    # Without a watchdog: it would reset this machine. When it begins to stop it is told who lives.
    host.change(
        "sanlock",
        "[Service]\nEnvironment=SANLOCK_PRIVILEGED=0\nRuntimeDirectory=sanlock\nExecStart=\n"
        "ExecStart=/usr/sbin/sanlock daemon -w 0 -h 0 -l 0 -U root -G root -L -1 -S -1 -e %m\n"
        f"ExecStop=\nExecStop=-/bin/sh -c 'pgrep -l . > {told}'\n{leave}\n",
    )
    sd_id = domain(host, "--store", "sanlock", "--io-timeout", 1)
    host("systemctl", "start", AGENT)
    host("leasehold", "host", "join", sd_id, "--host-id", 1, "--no-watchdog")
    job_id = begin(host)
    lease = json.loads(host("leasehold", "lease", "info", sd_id, job_id, "--json"))
    host.shutdown()
    left = [line.split()[1] for line in told.read_text().splitlines()]
    assert "sanlock" in left
    assert not {WORKER, "qemu-img", "leasehold"} & set(left)
    with host.written(lease["path"]).open("rb") as volume:
        volume.seek(lease["offset"] + DEFAULT.lvb_offset)
        assert b'"FAILED"' in volume.read(DEFAULT.sector)
    space = host.written(lease["path"]).with_name("ids")
    assert ids.members(str(space), DEFAULT)[1].timestamp == 0  # free
