"""`leasehold job resolve`: the verdict on one job, and the exit code that it is told with."""

import signal
import uuid
from typing import Any

import pytest

from tests.cli.hosted import HostCli
from tests.cli.run import Ended, ended, until

pytestmark = pytest.mark.tools("qemu-img")


def resolved(cli: HostCli, job_id: str, *options: object) -> Ended:
    return cli("job", "resolve", cli.sd, job_id, "--json", *options)


def test_a_job_is_done_when_host_and_lease_say_so(shared_agent: HostCli) -> None:
    job_id = shared_agent.finished()
    told = resolved(shared_agent, job_id)
    assert told.code == 0
    facts: dict[str, Any] = told.json
    assert (facts["verdict"], facts["row"], facts["cut_off"]) == ("done", "2", False)
    assert (facts["generation"], facts["host"]) == (0, shared_agent.agent.url)
    answers = [one["answer"] for one in facts["story"]]
    assert answers[0] == "the job is done"
    assert "SUCCEEDED, generation 1" in answers[1]


def test_a_job_that_its_host_has_forgotten_is_judged_by_its_lease(shared_agent: HostCli) -> None:
    job_id = shared_agent.finished()
    shared_agent.call("Job.delete", job_id=job_id)
    told = resolved(shared_agent, job_id)
    assert told.code == 0
    facts = told.json
    assert (facts["verdict"], facts["row"], facts["generation"]) == ("done", "6", 0)
    assert facts["cut_off"] is True


def test_a_job_that_failed_is_told_with_its_error(shared_agent: HostCli) -> None:
    job_id = shared_agent.failed()
    told = resolved(shared_agent, job_id)
    assert (told.code, told.json["verdict"], told.json["fenced"]) == (1, "failed", False)
    assert told.json["error"]["code"] == 4101
    told = shared_agent("job", "resolve", shared_agent.sd, job_id)
    assert told.code == 1
    assert f"job {job_id} is failed: " in told.out
    assert "its host said: " in told.out


def test_a_job_that_nobody_runs_is_fenced(shared_agent: HostCli) -> None:
    job_id = shared_agent.forgotten()
    told = resolved(shared_agent, job_id)
    assert told.code == 4
    assert (told.json["verdict"], told.json["fenced"]) == ("failed", True)
    record = shared_agent.record(job_id)
    assert (record["job_status"], record["generation"]) == ("FENCED", 1)
    again = resolved(shared_agent, job_id)
    assert (again.code, again.json["fenced"], again.json["generation"]) == (4, True, 0)


def test_the_generation_of_a_job_may_be_said(shared_agent: HostCli) -> None:
    """The record is then not of this job's beginning: nobody may decide."""
    job_id = shared_agent.forgotten()
    told = resolved(shared_agent, job_id, "--generation", 5)
    assert (told.code, told.json["cause"]) == (7, "OTHER_RECORD")
    assert shared_agent.record(job_id)["job_status"] == "PENDING"


def test_a_job_without_its_lease_is_unresolved_and_the_way_out_is_said(
    shared_agent: HostCli,
) -> None:
    job_id = shared_agent.finished()
    assert shared_agent("lease", "delete", shared_agent.sd, job_id).code == 0
    told = resolved(shared_agent, job_id)
    assert (told.code, told.json["verdict"], told.json["cause"]) == (7, "unresolved", "LEASE_GONE")
    told = shared_agent("job", "resolve", shared_agent.sd, job_id)
    assert told.code == 7
    assert f"change nothing; `leasehold lease rebuild {shared_agent.sd}`" in told.out


def test_there_is_no_verdict_on_a_job_that_runs(shared_agent: HostCli) -> None:
    job_id = shared_agent.slow()
    told = resolved(shared_agent, job_id)
    assert (told.code, told.json["verdict"], told.json["row"]) == (6, None, "1")
    assert told.json["job"]["status"] == "running"
    told = shared_agent("job", "resolve", shared_agent.sd, job_id)
    assert told.code == 6
    assert "there is no verdict" in told.out
    assert shared_agent.info(job_id)["status"] == "running"
    shared_agent.abort(job_id)
    assert resolved(shared_agent, job_id).code == 1


def test_a_job_whose_lease_is_held_by_somebody_else_of_the_host_is_not_touched(
    shared_agent: HostCli,
) -> None:
    """The host that holds the lease is asked to fence, and knows better."""
    job_id, target = str(uuid.uuid4()), shared_agent.target()
    names = ("--domain", shared_agent.sd, "--job-id", job_id, "--limit", "1M")
    with shared_agent.started("copy", shared_agent.disk(40), target, *names) as process:
        until(target.exists)
        told = resolved(shared_agent, job_id)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert ended(process).code == 4
    assert (told.code, told.json["verdict"], told.json["row"]) == (6, None, "5")
    assert [one["row"] for one in told.json["story"]] == ["5", "5a", "5"]
    assert shared_agent.record(job_id)["job_status"] == "FAILED"


def test_a_job_of_which_nobody_knows_anything_is_not_found(shared_agent: HostCli) -> None:
    told = resolved(shared_agent, str(uuid.uuid4()))
    assert (told.code, told.error["code"]) == (3, 66)


def test_a_domain_that_no_host_knows_is_not_found(shared_agent: HostCli) -> None:
    told = shared_agent("job", "resolve", uuid.uuid4(), uuid.uuid4(), "--json")
    assert (told.code, told.error["code"]) == (3, 358)
    assert "mounts" in shared_agent("job", "resolve", uuid.uuid4(), uuid.uuid4()).err


def test_a_copy_to_a_volume_is_not_judged_by_a_lease(shared_agent: HostCli) -> None:
    made = shared_agent("volume", "create", shared_agent.sd, "--size", "1M", "--json").json
    name = "/".join((made["sd_id"], made["img_id"], made["vol_id"]))
    arguments = ("job", "submit", shared_agent.disk(), name, "--source-format", "raw", "--wait")
    job_id = shared_agent(*arguments, "--json").json["job_id"]
    told = resolved(shared_agent, job_id)
    assert (told.code, told.error["code"]) == (6, 2009)
    assert "leasehold volume info" in told.error["message"]


def test_one_host_that_does_not_answer_is_no_end_of_the_judgement(shared_agent: HostCli) -> None:
    """It may be the job's own, so its access to the target is to be cut before a clean-up."""
    job_id = shared_agent.finished()
    shared_agent.call("Job.delete", job_id=job_id)
    gone = f"unix:{shared_agent.home}/none"
    told = resolved(shared_agent, job_id, "--host", gone, "--host", shared_agent.agent.url)
    assert (told.code, told.json["host"], told.json["cut_off"]) == (0, gone, True)


def test_a_monitor_may_not_fence(shared_agent: HostCli) -> None:
    job_id = shared_agent.forgotten()
    told = resolved(shared_agent, job_id, "--host", shared_agent.agent.monitor)
    assert (told.code, told.error["code"]) == (6, 4030)
    assert shared_agent.record(job_id)["job_status"] == "PENDING"
    assert resolved(shared_agent, shared_agent.finished()).code == 0
