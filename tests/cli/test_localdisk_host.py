"""`leasehold localdisk --host`: local disks by an agent; its LVM is a stand-in."""

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import WorkerDied
from tests.cli.hosted import HostCli, hosted
from tests.cli.local_disks import MIB, LocalCli, settings, volume
from tests.cli.run import Ended, ended, until
from tests.local_disks import StandIn
from tests.servers import users

pytestmark = pytest.mark.tools("qemu-img")

RAW = ("--source-format", "raw")


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    return StandIn.made(tmp_path_factory.mktemp("lvm"))


@pytest.fixture(scope="module")
def cli(group: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostCli]:
    """Beside an agent for all tests of this file; do not hurt it."""
    told = [f"localdisk.{key}={value}" for key, value in settings(group).items()]
    with hosted(tmp_path_factory.mktemp("agent"), *told) as made:
        yield made


@pytest.fixture
def vm() -> str:
    return str(uuid.uuid4())


def localdisk(cli: HostCli, *words: object) -> Ended:
    return cli("localdisk", *words, "--host", cli.agent.url)


def done(cli: HostCli, *words: object) -> Any:
    told = localdisk(cli, *words, "--json")
    assert told.code == 0, told
    return told.json


def disk_of(cli: HostCli, vm: str) -> dict[str, Any] | None:
    found = [one for one in cli.call("LocalDisk.list") if one["vm_id"] == vm]
    return found[0] if found else None


@contextmanager
def preparing(
    cli: HostCli, source: Path, vm: str, *words: object
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A copy that takes long, in the middle, and the id of its job."""
    host = ("--host", cli.agent.url, "--vm", vm, "--limit", "1M")
    with cli.started("localdisk", "prepare", source, *RAW, *host, *words) as process:
        until(lambda: process.poll() is not None or disk_of(cli, vm))
        found = disk_of(cli, vm)
        assert found is not None, ended(process)
        job_id = found["job_id"]
        until(lambda: _moved(cli, job_id) or process.poll() is not None)
        assert process.poll() is None, ended(process)
        yield process, job_id


def _moved(cli: HostCli, job_id: str) -> int:
    """Bytes of a job, which its disk names before the agent knows it."""
    return int(cli.call("Host.getJobs", job_ids=[job_id]).get(job_id, {}).get("bytes") or 0)


def test_a_disk_is_copied_by_a_job_of_the_agent(cli: HostCli, vm: str) -> None:
    source = cli.disk(4)
    made = done(cli, "prepare", source, *RAW, "--vm", vm)
    assert Path(made["path"]).read_bytes() == source.read_bytes()
    assert cli.info(made["job_id"])["status"] == "done"
    told = (made["state"], made["bytes"], made["host"])
    assert told == ("ready", 4 * MIB, cli.agent.url)
    names = {"vol_id", "img_id", "vm_id", "backend", "job_id", "path", "host", "state"}
    assert set(made) == {*names, "changed", "reused", "bytes", "seconds", "rate"}
    again = localdisk(cli, "prepare", source, *RAW, "--vm", vm)
    assert (again.code, again.out) == (0, f"{made['path']}\n")
    assert "is there already" in again.err


def test_the_job_is_watched_as_any_other(cli: HostCli, vm: str) -> None:
    with preparing(cli, cli.disk(8), vm, "--limit", "4M") as (process, job_id):
        watched = cli("job", "watch", job_id)
        assert (watched.code, ended(process).code) == (0, 0)
    assert watched.out.splitlines()[-1].startswith(f"{job_id} done 100%, 8.00M of 8.00M")


def test_a_copy_whose_process_dies_is_made_anew(cli: HostCli, vm: str, group: StandIn) -> None:
    source = cli.disk(4)
    words = ("localdisk", "prepare", source, *RAW, "--vm", vm, "--host", cli.agent.url, "--json")
    with cli.started(*words, "--limit", "1M") as process:
        until(lambda: process.poll() is not None or _filling(group, vm))
        [disk] = [one for one in group.volumes().values() if f"VM_{vm}" in one.tags]
        for pid in users(group.device(disk.name)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        told = ended(process)
    assert (told.code, told.json["state"]) == (0, "ready")
    assert "has died: the disk is copied anew" in told.err
    assert f"JOB_{told.json['job_id']}" not in disk.tags
    assert Path(told.json["path"]).read_bytes() == source.read_bytes()


def test_ctrl_c_has_the_job_aborted(cli: HostCli, vm: str) -> None:
    with preparing(cli, cli.disk(40), vm) as (process, job_id):
        process.send_signal(signal.SIGINT)
        told = ended(process)
    assert told.code == 4
    assert f"job {job_id} was aborted; look with `leasehold job show {job_id}" in told.err
    assert cli.info(job_id)["status"] == "aborted"
    found = disk_of(cli, vm)
    assert found is not None
    assert found["state"] == "filling"


def test_ctrl_c_leaves_a_job_that_somebody_else_began(cli: HostCli, vm: str) -> None:
    source = cli.disk(8)
    with preparing(cli, source, vm, "--limit", "2M") as (first, job_id):
        words = ("localdisk", "prepare", source, *RAW, "--vm", vm, "--host", cli.agent.url)
        with cli.started(*words) as second:
            assert second.stderr is not None
            line = next(line for line in second.stderr if job_id in line)
            assert "which somebody else began" in line
            second.send_signal(signal.SIGINT)
            told = ended(second)
        assert told.code == 4
        assert f"job {job_id} is left to its host" in told.err
        assert ended(first).code == 0


@contextmanager
def preparing_elsewhere(
    cli: HostCli, group: StandIn, source: Path, vm: str, *words: object
) -> Iterator[subprocess.Popen[str]]:
    """A copy in the middle, by a process of that host whose jobs its agent knows nothing of; it
    ends only after SIGCONT."""
    state = {"LEASEHOLD_FOLDERS_STATE": str(cli.home.parent / f"state-{uuid.uuid4()}")}
    other = LocalCli(cli.home, group, state)
    slow = ("--vm", vm, "--limit", "2M", *words)
    with other.started("localdisk", "prepare", source, *RAW, *slow) as process:
        until(lambda: process.poll() is not None or _filling(group, vm))
        process.send_signal(signal.SIGSTOP)
        assert _filling(group, vm), ended(process)
        yield process


def _filling(group: StandIn, vm: str) -> bool:
    """Does a tool write to the disk of a VM?"""
    found = [one for one in group.volumes().values() if {f"VM_{vm}", "UPDATING"} <= one.tags]
    return any(group.device(one.name).stat().st_blocks for one in found)


def heard(process: subprocess.Popen[str], words: str) -> str:
    """The line in which a command that runs says so."""
    assert process.stderr is not None
    return next(line for line in process.stderr if words in line)


def test_a_copy_that_the_agent_does_not_know_is_waited_for(
    cli: HostCli, vm: str, group: StandIn
) -> None:
    source = cli.disk(4)
    words = ("localdisk", "prepare", source, *RAW, "--vm", vm, "--host", cli.agent.url, "--json")
    with (
        preparing_elsewhere(cli, group, source, vm, "--json") as first,
        cli.started(*words) as second,
    ):
        line = heard(second, "waiting for it")
        first.send_signal(signal.SIGCONT)
        made, told = ended(first), ended(second)
    assert (made.code, told.code) == (0, 0)
    assert (told.json["path"], told.json["job_id"]) == (made.json["path"], made.json["job_id"])
    assert (made.json["job_id"] in line, "waiting for it" in told.err) == (True, False)
    assert told.json["reused"] is False
    assert Path(told.json["path"]).read_bytes() == source.read_bytes()
    assert len([call for call in group.calls() if call[:2] == ["create", told.json["vol_id"]]]) == 1


def test_a_copy_that_the_agent_does_not_know_is_made_anew_when_it_dies(
    cli: HostCli, vm: str, group: StandIn
) -> None:
    source = cli.disk(4)
    words = ("localdisk", "prepare", source, *RAW, "--vm", vm, "--host", cli.agent.url, "--json")
    with (
        preparing_elsewhere(cli, group, source, vm) as first,
        cli.started(*words) as second,
    ):
        line = heard(second, "waiting for it")
        first.kill()
        told = ended(second)
    assert (told.code, told.json["bytes"]) == (0, 4 * MIB)
    assert told.json["job_id"] not in line
    assert Path(told.json["path"]).read_bytes() == source.read_bytes()


def test_ctrl_c_leaves_a_copy_that_the_agent_does_not_know(
    cli: HostCli, vm: str, group: StandIn
) -> None:
    source = cli.disk(4)
    words = ("localdisk", "prepare", source, *RAW, "--vm", vm, "--host", cli.agent.url)
    with (
        preparing_elsewhere(cli, group, source, vm) as first,
        cli.started(*words) as second,
    ):
        heard(second, "waiting for it")
        second.send_signal(signal.SIGINT)
        told = ended(second)
        first.send_signal(signal.SIGCONT)
        assert (told.code, ended(first).code) == (4, 0)
    assert "is left to its host; look with `leasehold localdisk list --host" in told.err


def test_an_agent_that_is_started_anew_is_waited_for_while_another_process_copies(
    tmp_path: Path, vm: str
) -> None:
    (tmp_path / "lvm").mkdir()
    group = StandIn.made(tmp_path / "lvm")
    settled = [f"localdisk.{key}={value}" for key, value in settings(group).items()]
    with hosted(tmp_path, *settled) as own:
        source = own.disk(4)
        words = ("localdisk", "prepare", source, *RAW, "--vm", vm, "--host", own.agent.url)
        with (
            preparing_elsewhere(own, group, source, vm) as first,
            own.started(*words) as second,
        ):
            heard(second, "waiting for it")
            own.agent.stop()
            heard(second, "trying again for")
            own.agent.start()
            first.send_signal(signal.SIGCONT)
            assert (ended(first).code, ended(second).code) == (0, 0)


def test_two_at_once_are_one_job(cli: HostCli, vm: str, group: StandIn) -> None:
    source = cli.disk(32)  # the second one has to begin before the first one ends
    words = ("localdisk", "prepare", source, *RAW, "--vm", vm, "--host", cli.agent.url, "--json")
    started = preparing(cli, source, vm, "--json", "--limit", "4M")
    with started as (first, job_id), cli.started(*words) as second:
        told = [ended(first), ended(second)]
    assert [one.code for one in told] == [0, 0]
    assert [one.json["job_id"] for one in told] == [job_id, job_id]
    name = told[0].json["vol_id"]
    assert len([call for call in group.calls() if call[:2] == ["create", name]]) == 1


def test_again_copies_once_and_not_for_ever(cli: HostCli, vm: str) -> None:
    source = cli.disk()
    first = done(cli, "prepare", source, *RAW, "--vm", vm, "--start")
    again = done(cli, "prepare", source, *RAW, "--vm", vm, "--again")
    assert again["state"] == "ready"
    assert again["job_id"] != first["job_id"]


def test_a_copy_that_somebody_aborts_is_exit_4(cli: HostCli, vm: str) -> None:
    with preparing(cli, cli.disk(40), vm, "--json") as (process, job_id):
        assert cli("job", "abort", job_id).code == 0
        told = ended(process)
    assert (told.code, told.error["data"]["job"]["status"]) == (4, "aborted")


def test_a_copy_that_fails_is_exit_1_and_says_where_to_look(cli: HostCli, vm: str) -> None:
    source = cli.disk(8)
    with preparing(cli, source, vm, "--limit", "2M") as (process, job_id):
        with source.open("r+b") as file:
            file.truncate(MIB)
        told = ended(process)
    assert told.code == 1
    assert f"job {job_id} failed: " in told.err


def test_an_agent_that_goes_away_leaves_the_copy_and_we_say_so(tmp_path: Path, vm: str) -> None:
    (tmp_path / "lvm").mkdir()
    group = StandIn.made(tmp_path / "lvm")
    told = [f"localdisk.{key}={value}" for key, value in settings(group).items()]
    with hosted(tmp_path, *told) as own:
        with preparing(own, own.disk(12), vm, "--timeout", "1") as (process, job_id):
            own.agent.stop()
            left = ended(process)
            assert left.code == 5
            assert f"look with `leasehold job show {job_id}" in left.err
        own.agent.start()
        own.reached(job_id, "done")
        made = localdisk(own, "list", "--json").json["disks"]
        assert [(one["state"], one["job_id"]) for one in made] == [("ready", job_id)]


def test_what_a_host_cannot_be_asked_is_bad_input(cli: HostCli, tmp_path: Path, vm: str) -> None:
    told = localdisk(cli, "prepare", cli.disk(), "--json")
    assert (told.code, told.error["data"]["name"]) == (2, "--source-format")
    told = localdisk(cli, "prepare", cli.disk(), *RAW, "--allow", tmp_path, "--json")
    assert (told.code, told.error["data"]["name"]) == (2, "--allow")
    (tmp_path / "secret").write_bytes(b"x" * MIB)
    told = localdisk(cli, "prepare", tmp_path / "secret", *RAW, "--vm", vm, "--json")
    assert (told.code, told.error["code"]) == (2, 1000)
    assert disk_of(cli, vm) is None


def test_disks_are_listed_removed_and_collected(cli: HostCli, vm: str, group: StandIn) -> None:
    one, dead = volume(f"VM_{vm}"), volume("UPDATING", f"VM_{vm}")
    busy = volume(f"VM_{vm}", open=True)
    for disk in (one, dead, busy):
        group.add(disk)
    listed = {row["vol_id"]: row["state"] for row in done(cli, "list")["disks"]}
    assert (listed[one.name], listed[dead.name]) == ("ready", "filling")
    unused = {row["vol_id"]: row for row in done(cli, "gc", "--dry-run")["unused"]}
    assert unused[dead.name]["removed"] is False
    unused = {row["vol_id"]: row for row in done(cli, "gc")["unused"]}
    assert unused[dead.name]["removed"] is True
    told = localdisk(cli, "remove", busy.name, "--json")
    assert (told.code, told.error["code"]) == (6, 4301)
    assert done(cli, "remove", one.name)["removed"] == [one.name]
    assert busy.name in group.volumes()
    assert not {one.name, dead.name} & set(group.volumes())


def test_one_that_is_being_filled_is_removed_after_its_copy_was_aborted(
    cli: HostCli, vm: str
) -> None:
    with preparing(cli, cli.disk(40), vm) as (process, job_id):
        told = localdisk(cli, "remove", "--vm", vm, "--json")
        assert (told.code, told.error["code"]) == (6, 4301)
        assert len(done(cli, "remove", "--vm", vm, "--abort")["removed"]) == 1
        assert ended(process).code == 4
    assert cli.info(job_id)["status"] == "aborted"
    assert disk_of(cli, vm) is None


def test_who_may_only_look_sees_the_list_and_no_more(cli: HostCli) -> None:
    monitor = ("--host", cli.agent.monitor)
    assert cli("localdisk", "list", *monitor).code == 0
    for words in (("prepare", cli.disk(), *RAW), ("gc",), ("remove", str(uuid.uuid4()))):
        told = cli("localdisk", *words, *monitor)
        assert told.code == 6, words
        assert "is not for the role monitor" in told.err


# --- a copy by another process with the agent's journal -------------------------------------------


@contextmanager
def preparing_beside(
    cli: HostCli, group: StandIn, source: Path, vm: str, *words: object
) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str], str]]:
    """A copy by a command without `--host`, in the middle, one that has asked the agent for that
    disk, and the id of the job."""
    state = {"LEASEHOLD_FOLDERS_STATE": str(cli.home.parent / "state")}
    own, disk = LocalCli(cli.home, group, state), ("localdisk", "prepare", source, *RAW)
    with own.started(*disk, "--vm", vm, "--limit", "2M", "--json", *words) as first:
        until(lambda: first.poll() is not None or _filling(group, vm))
        asked = (*disk, "--vm", vm, "--host", cli.agent.url, "--json")
        with cli.started(*asked) as second:
            line = heard(second, "which somebody else began")
            found = disk_of(cli, vm)
            assert found is not None
            assert found["job_id"] in line
            yield first, second, found["job_id"]


def test_a_copy_of_another_process_is_a_job_of_the_agent_as_any_other(
    cli: HostCli, vm: str, group: StandIn
) -> None:
    source = cli.disk(12)
    with preparing_beside(cli, group, source, vm) as (first, second, job_id):
        watched = cli("job", "watch", job_id)
        told = [ended(first), ended(second)]
    assert watched.code == 0
    assert watched.out.splitlines()[-1].startswith(f"{job_id} done 100%, 12.0M of 12.0M")
    assert [one.code for one in told] == [0, 0]
    assert [one.json["job_id"] for one in told] == [job_id, job_id]
    assert told[1].json["bytes"] == 12 * MIB
    folder = cli.home.parent / "state" / "jobs" / job_id
    assert folder.exists()
    cli.call("Job.delete", job_id=job_id)
    assert not folder.exists()


def test_a_copy_of_another_process_can_be_aborted_by_the_agent(
    cli: HostCli, vm: str, group: StandIn
) -> None:
    with preparing_beside(cli, group, cli.disk(40), vm) as (first, second, job_id):
        assert cli("job", "abort", job_id).code == 0
        assert (ended(first).code, ended(second).code) == (4, 4)
    assert cli.info(job_id)["status"] == "aborted"
    found = disk_of(cli, vm)
    assert found is not None
    assert found["job_status"] == "FAILED"


def test_a_copy_of_another_process_that_dies_is_judged_and_made_anew(
    cli: HostCli, vm: str, group: StandIn
) -> None:
    source = cli.disk(4)
    with preparing_beside(cli, group, source, vm) as (first, second, job_id):
        first.kill()
        told = ended(second)
    assert (told.code, cli.info(job_id)["error"]["code"]) == (0, WorkerDied.code)
    assert told.json["job_id"] != job_id
    assert Path(told.json["path"]).read_bytes() == source.read_bytes()
