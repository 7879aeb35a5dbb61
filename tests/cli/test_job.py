"""`leasehold job submit|list|show|abort|delete`, beside a real agent."""

import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.cli.hosted import HostCli
from tests.cli.run import Cli, ended, until

pytestmark = pytest.mark.tools("qemu-img")

SD = "1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"
JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"


# --- submit ---------------------------------------------------------------------------------------


def test_a_submitted_copy_is_done_by_the_agent_and_its_lease_says_so(
    shared_agent: HostCli,
) -> None:
    source, target = shared_agent.disk(), shared_agent.target()
    told = shared_agent("job", "submit", source, target, "--source-format", "raw")
    assert told.code == 0
    job_id = told.out.strip()
    assert str(uuid.UUID(job_id)) == job_id
    assert f"leasehold job show {job_id} --host {shared_agent.agent.url}" in told.err
    shared_agent.reached(job_id, "done")
    assert target.read_bytes() == source.read_bytes()
    record = shared_agent.record(job_id)
    assert (record["job_status"], record["generation"]) == ("SUCCEEDED", 1)


def test_a_submitted_copy_is_one_object_with_json(shared_agent: HostCli) -> None:
    job_id = str(uuid.uuid4())
    ends = shared_agent.disk(), shared_agent.target()
    options = ("--source-format", "raw", "--job-id", job_id, "--domain", shared_agent.sd)
    told = shared_agent("job", "submit", *ends, *options, "--priority", 5, "--verify", "--json")
    assert told.code == 0
    names = {"job_id": job_id, "sd_id": shared_agent.sd, "lease_id": job_id}
    assert told.json == {**names, "host": shared_agent.agent.url}
    shared_agent.reached(job_id, "done")
    assert shared_agent.info(job_id)["verified"] is True


def test_a_submit_that_waits_tells_the_result(shared_agent: HostCli) -> None:
    source, target = shared_agent.disk(), shared_agent.target()
    arguments = ("job", "submit", source, target, "--source-format", "raw", "--wait", "--json")
    told = shared_agent(*arguments)
    assert told.code == 0
    result = told.json
    assert (result["status"], result["progress"], result["bytes"]) == ("done", 100, 1 << 20)
    assert set(result) >= {"job_id", "sd_id", "lease_id", "seconds", "path_taken", "virtual_size"}
    assert target.read_bytes() == source.read_bytes()


def test_a_submit_that_waits_fails_when_the_job_does(shared_agent: HostCli) -> None:
    missing, target = shared_agent.target(), shared_agent.target()
    arguments = ("job", "submit", missing, target, "--source-format", "raw", "--wait")
    told = shared_agent(*arguments)
    assert told.code == 1
    assert told.out == ""
    assert "does not exist" in told.err
    told = shared_agent(*arguments, "--json")
    assert (told.code, told.error["code"]) == (1, 4101)
    assert told.error["data"]["job"]["status"] == "failed"


def test_a_signal_ends_the_waiting_and_not_the_job(shared_agent: HostCli) -> None:
    target, job_id = shared_agent.target(), str(uuid.uuid4())
    options = ("--source-format", "raw", "--limit", "1M", "--job-id", job_id, "--wait")
    with shared_agent.started("job", "submit", shared_agent.disk(40), target, *options) as process:
        until(target.exists)
        process.send_signal(signal.SIGINT)
        told = ended(process)
    assert told.code == 4
    assert f"job {job_id} is not waited for any more; look with " in told.err
    shared_agent.reached(job_id, "running")
    shared_agent.abort(job_id)


def test_a_copy_that_is_refused_leaves_no_lease(shared_agent: HostCli, tmp_path: Path) -> None:
    job_id = str(uuid.uuid4())
    elsewhere = tmp_path / "not allowed"
    arguments = ("job", "submit", shared_agent.disk(), elsewhere, "--source-format", "raw")
    told = shared_agent(*arguments, "--job-id", job_id, "--json")
    assert (told.code, told.error["code"], told.error["kind"]) == (2, 1000, "BadParameter")
    assert "not in a directory that is allowed" in told.error["message"]
    assert not shared_agent.has_lease(job_id)
    assert shared_agent("job", "show", job_id).code == 3


def test_a_refused_copy_does_not_take_the_lease_of_another_one(
    shared_agent: HostCli, tmp_path: Path
) -> None:
    """It was there before, and somebody else relies on it."""
    job_id = shared_agent.forgotten()
    ends = shared_agent.disk(), tmp_path / "not allowed"
    told = shared_agent("job", "submit", *ends, "--source-format", "raw", "--job-id", job_id)
    assert told.code == 2
    assert shared_agent.record(job_id)["job_status"] == "PENDING"


def test_the_same_job_id_is_refused_and_the_first_job_goes_on(shared_agent: HostCli) -> None:
    job_id = shared_agent.slow()
    ends = shared_agent.disk(), shared_agent.target()
    arguments = ("job", "submit", *ends, "--source-format", "raw", "--job-id", job_id, "--json")
    told = shared_agent(*arguments)
    assert told.code == 6
    assert told.error["code"] in (69, 4002)  # the job, or its lease, exists
    assert shared_agent.info(job_id)["status"] == "running"
    assert shared_agent.has_lease(job_id)
    shared_agent.abort(job_id)


def test_a_copy_to_a_volume_expects_the_generation_that_the_host_tells(
    shared_agent: HostCli,
) -> None:
    created = shared_agent("volume", "create", shared_agent.sd, "--size", "1M", "--json").json
    ids = (created["sd_id"], created["img_id"], created["vol_id"])
    for generation in (1, 2):  # after each
        source = shared_agent.disk()
        arguments = ("job", "submit", source, "/".join(ids), "--source-format", "raw", "--wait")
        told = shared_agent(*arguments, "--json")
        assert told.code == 0, told
        assert told.json["vol_id"] == created["vol_id"]
        assert not shared_agent.has_lease(told.json["job_id"])
        info = shared_agent("volume", "info", *ids, "--json").json
        assert (info["generation"], info["legality"]) == (generation, "LEGAL")


def test_a_relative_name_is_one_of_the_folder_that_we_are_in(shared_agent: HostCli) -> None:
    source, target = shared_agent.disk(), shared_agent.target()
    arguments = ("job", "submit", source.name, target.name, "--source-format", "raw", "--wait")
    assert shared_agent(*arguments, cwd=shared_agent.disks).code == 0
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("/a", "/b"), "--source-format"),
        ((f"{SD}/{SD}/{SD}", "/b", "--source-format", "raw"), "--source-format"),
        (("/a", f"{SD}/{SD}/{SD}", "--source-format", "raw", "--domain", SD), "--domain"),
        (("http://a", "/b", "--source-format", "raw"), "url"),
        (("/a", "/b", "--source-format", "raw", "--limit", "0"), "--limit"),
        (("/a", "/b", "--source-format", "raw", "--priority", "1001"), "--priority"),
        (("/a", "/b", "--source-format", "raw", "--host", "http://x"), "--host"),
        (("/a", "/b", "--source-format", "raw", "--host", "tls://x"), "--host"),
        (("/a", "/b", "--source-format", "raw", "--host", "tcp://192.0.2.1"), "--host"),
        (("/a", "/b", "--source-format", "raw", "--timeout", "0"), "--timeout"),
    ],
)
def test_a_submit_that_cannot_be_right_is_refused_before_anybody_is_asked(
    cli: Cli, arguments: tuple[str, ...], name: str
) -> None:
    told = cli("job", "submit", *arguments, "--json")
    assert (told.code, told.error["code"], told.error["data"]["name"]) == (2, 1000, name)


# --- list, show -----------------------------------------------------------------------------------


def test_jobs_are_listed_as_a_table_and_as_they_are_told(shared_agent: HostCli) -> None:
    done, failed = shared_agent.finished(), shared_agent.failed()
    told = shared_agent("job", "list", "--status", "failed", "--status", "done")
    rows = {line.split()[0]: line.split() for line in told.out.splitlines()}
    assert rows["JOB"][1:3] == ["STATUS", "DONE"]
    assert rows[done][1:4] == ["done", "100%", "1.00M"]
    assert rows[failed][1] == "failed"
    listed = shared_agent("job", "list", "--status", "failed", "--json").json["jobs"]
    assert {one["status"] for one in listed} == {"failed"}
    assert failed in [one["id"] for one in listed]


def test_long_lists_come_in_pages(shared_agent: HostCli) -> None:
    ids = {shared_agent.failed() for _ in range(3)}
    some = ("job", "list", "--status", "failed", "--limit", 2)
    seen: list[str] = []
    pages = 0
    offset: int | None = 0
    while offset is not None:
        assert pages < 50
        page = shared_agent(*some, "--offset", offset, "--json").json
        seen += [one["id"] for one in page["jobs"]]
        pages, offset = pages + 1, page["next"]
    assert set(seen) >= ids
    assert len(set(seen)) == len(seen) > 2 * (pages - 1) > 0
    assert "there are more: --offset 2" in shared_agent(*some).out


def test_a_job_is_shown_with_both_ends_and_its_error(shared_agent: HostCli) -> None:
    failed = shared_agent.failed()
    told = shared_agent("job", "show", failed)
    assert told.code == 0
    facts = dict(line.split(":", 1) for line in told.out.splitlines())
    assert facts["job"].strip() == failed
    assert facts["status"].strip() == "failed"
    assert f"lease {failed} in storage domain {shared_agent.sd}" in facts["destination"]
    assert "does not exist" in facts["error"]
    assert shared_agent.info(failed)["error"]["code"] == 4101


# --- abort, delete --------------------------------------------------------------------------------


def test_an_abort_waits_for_the_end_of_the_job(shared_agent: HostCli) -> None:
    job_id = shared_agent.slow()
    told = shared_agent("job", "abort", job_id, "--json")
    assert (told.code, told.json["status"]) == (0, "aborted")
    assert shared_agent.record(job_id)["job_status"] == "FAILED"


def test_an_abort_need_not_wait(shared_agent: HostCli) -> None:
    job_id = shared_agent.slow()
    told = shared_agent("job", "abort", job_id, "--no-wait", "--json")
    assert told.code == 0
    assert told.json["status"] in ("aborting", "aborted")
    shared_agent.reached(job_id, "aborted")


def test_a_job_that_has_ended_cannot_be_aborted(shared_agent: HostCli) -> None:
    told = shared_agent("job", "abort", shared_agent.finished(), "--json")
    assert (told.code, told.error["code"]) == (6, 84)


def test_a_job_that_runs_cannot_be_deleted(shared_agent: HostCli) -> None:
    job_id = shared_agent.slow()
    for lease in ((), ("--lease",)):
        told = shared_agent("job", "delete", job_id, *lease, "--json")
        assert (told.code, told.error["code"]) == (6, 68)
    shared_agent.abort(job_id)


def test_a_job_is_deleted_and_its_lease_stays(shared_agent: HostCli) -> None:
    job_id = shared_agent.finished()
    told = shared_agent("job", "delete", job_id, "--json")
    assert (told.code, told.json) == (0, {"job_id": job_id, "lease_deleted": False})
    assert shared_agent("job", "show", job_id).code == 3
    assert shared_agent.record(job_id)["job_status"] == "SUCCEEDED"


def test_a_job_is_deleted_with_its_lease(shared_agent: HostCli) -> None:
    job_id = shared_agent.finished()
    told = shared_agent("job", "delete", job_id, "--lease", "--json")
    assert (told.code, told.json["lease_deleted"]) == (0, True)
    assert not shared_agent.has_lease(job_id)


def test_a_lease_that_tells_of_no_end_is_not_deleted_and_neither_is_its_job(
    shared_agent: HostCli,
) -> None:
    """As after the worker of the job has died: nobody has judged it yet."""
    job_id = shared_agent.finished()
    deleted = shared_agent("lease", "delete", shared_agent.sd, job_id)
    made = shared_agent("lease", "create", shared_agent.sd, job_id, "--job-id", job_id)
    assert (deleted.code, made.code) == (0, 0)
    told = shared_agent("job", "delete", job_id, "--lease", "--json")
    assert (told.code, told.error["code"]) == (6, 2009)
    assert "job resolve" in told.error["message"]
    assert shared_agent.record(job_id)["job_status"] == "PENDING"
    assert shared_agent.info(job_id)["status"] == "done"


# --- what all have in common ----------------------------------------------------------------------

ON_A_JOB = [("show", JOB), ("watch", JOB), ("abort", JOB), ("delete", JOB)]
ALL: list[tuple[object, ...]] = [
    ("submit", "/a", "/b", "--source-format", "raw"),
    ("list",),
    *ON_A_JOB,
    ("delete", JOB, "--lease"),
    ("resolve", SD, JOB),
]


@pytest.mark.parametrize("arguments", ON_A_JOB, ids=lambda one: one[0])
def test_a_job_that_the_host_does_not_know_is_not_found(
    shared_agent: HostCli, arguments: tuple[str, ...]
) -> None:
    told = shared_agent("job", *arguments, "--json")
    assert (told.code, told.error["code"]) == (3, 66)
    told = shared_agent("job", *arguments)
    assert told.err.count("\n") == 1
    assert "leasehold job list" in told.err


@pytest.mark.parametrize("arguments", ALL, ids=lambda one: " ".join(one[:1]))
def test_without_an_agent_nothing_can_be_done(cli: Cli, arguments: tuple[object, ...]) -> None:
    told = cli("job", *arguments, "--host", f"unix:{cli.home}/none", "--json")
    assert (told.code, told.error["code"]) == (5, 4107)
    told = cli("job", *arguments, "--host", f"unix:{cli.home}/none")
    assert (told.code, told.out, told.err.count("\n")) == (5, "", 1)


@pytest.mark.parametrize("arguments", [("list",), ("show",), ("watch",)], ids=" ".join)
def test_a_monitor_may_look(shared_agent: HostCli, arguments: tuple[str, ...]) -> None:
    job = [] if arguments == ("list",) else [shared_agent.finished()]
    told = shared_agent("job", *arguments, *job, "--host", shared_agent.agent.monitor)
    assert told.code == 0


def test_a_monitor_may_not_act(shared_agent: HostCli) -> None:
    job_id = shared_agent.slow()
    ends = shared_agent.disk(), shared_agent.target()
    attempts: list[tuple[Any, ...]] = [
        ("submit", *ends, "--source-format", "raw"),
        ("abort", job_id),
        ("delete", job_id),
    ]
    before = shared_agent.leases()
    for arguments in attempts:
        told = shared_agent("job", *arguments, "--host", shared_agent.agent.monitor, "--json")
        assert (told.code, told.error["code"], told.error["kind"]) == (6, 4030, "Forbidden")
        told = shared_agent("job", *arguments, "--host", shared_agent.agent.monitor)
        assert "certificates with the role engine" in told.err
    assert shared_agent.leases() == before
    assert shared_agent.info(job_id)["status"] == "running"
    shared_agent.abort(job_id)
