"""What commands make of a host that answers something else than they expect, or not at all."""

import json
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from host.wire.call import Call
from host.wire.doors import tls_doors
from host.wire.tls import Secrets
from protocol.errors import Error, JobExists, NoSuchJob, NoSuchLease
from protocol.jsonrpc import MethodNotFound
from tests.cli.run import PATIENCE, Cli, Ended, ended
from tests.host.authority import Site, sites
from tests.host.wire.serving import serving

__all__ = ["sites"]

SD = "1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"
JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
TASK = "f3a1c0de-5d0f-4c0a-9b6e-2f7d1c9a8b41"
SUBMIT = ("submit", "/a", "/b", "--source-format", "raw", "--job-id", JOB)
# What a host that does its work answers to the verbs before SDM.copy_data.
WELL: Mapping[str, Any] = {
    "Host.getCapabilities": {"domains": {SD: {"host_id": None, "state": "not joined"}}},
    "Lease.status": NoSuchLease(JOB),
    "Lease.create": TASK,
    "Lease.delete": TASK,
    "Task.getStatus": {"code": 0},
}
Answers = Mapping[str, Any]


def host(answers: Answers, called: list[str]) -> Callable[[Call], Awaitable[Any]]:
    async def dispatch(call: Call) -> Any:
        called.append(call.method)
        if call.method not in answers:
            raise MethodNotFound(call.method)
        answer = answers[call.method]
        if callable(answer):
            answer = await answer(call)
        if isinstance(answer, Error):
            raise answer
        return answer

    return dispatch


async def told(cli: Cli, answers: Answers, *arguments: object) -> tuple[Ended, list[str]]:
    """What a command says to a host with these answers by method, and what it called."""
    called: list[str] = []
    async with serving(host(answers, called)) as (_, address):
        command = ("job", *arguments, "--host", address, "--json")
        return await trio.to_thread.run_sync(lambda: cli(*command)), called


@pytest.mark.parametrize(
    "answer",
    [
        True,
        [],
        {},
        {"id": JOB},
        {"id": JOB, "status": "sleeping"},
        {"id": 1, "status": "running"},
        {"id": JOB, "status": "running", "progress": "much"},
        {"id": JOB, "status": "running", "eta": -1},
        {"id": JOB, "status": "running", "eta": 1e300},
        {"id": JOB, "status": "failed", "error": "broken"},
    ],
    ids=str,
)
async def test_a_job_that_makes_no_sense_is_one_error(cli: Cli, answer: Any) -> None:
    end, _ = await told(cli, {"Job.info": answer}, "show", JOB)
    assert (end.code, end.error["kind"]) == (1, "BadOutput")
    end, _ = await told(cli, {"Host.getJobs": {JOB: answer}}, "watch", JOB)
    assert (end.code, end.error["kind"]) == (1, "BadOutput")


@pytest.mark.parametrize("answer", [True, [], {"jobs": {}}, {"jobs": [1]}, {"jobs": [{}]}], ids=str)
async def test_a_list_that_makes_no_sense_is_one_error(cli: Cli, answer: Any) -> None:
    for words in (("list",), ("watch",)):
        end, _ = await told(cli, {"Job.list": answer}, *words)
        assert (end.code, end.error["kind"]) == (1, "BadOutput")


@pytest.mark.parametrize("verb", ["Host.getCapabilities", "Lease.create", "Task.getStatus"])
async def test_a_submit_ends_where_a_host_makes_no_sense(cli: Cli, verb: str) -> None:
    end, called = await told(cli, {**WELL, verb: [1]}, *SUBMIT)
    assert (end.code, end.error["kind"]) == (1, "BadOutput")
    assert "SDM.copy_data" not in called


async def test_a_verdict_is_no_guess_about_answers_that_make_no_sense(cli: Cli) -> None:
    for verb in ("Host.getCapabilities", "Job.info"):
        end, called = await told(cli, {**WELL, verb: 5}, "resolve", SD, JOB)
        assert (end.code, end.error["kind"]) == (1, "BadOutput")
        assert "Lease.fence" not in called


async def test_words_of_a_host_do_no_harm_to_a_terminal(cli: Cli) -> None:
    job = {"id": JOB, "status": "running", "description": "\x1b[31mred\nline", "stage": "\x07"}
    called: list[str] = []
    async with serving(host({"Job.info": job, "Job.list": {"jobs": [job]}}, called)) as (_, there):
        for words in (("show", JOB), ("list",)):
            end = await trio.to_thread.run_sync(partial(cli, "job", *words, "--host", there))
            assert end.code == 0
            assert "\x1b" not in end.out
            assert "\x07" not in end.out


# --- the domain of the lease ----------------------------------------------------------------------


@pytest.mark.parametrize("domains", [{}, {SD: {}, JOB: {}}], ids=["none", "two"])
async def test_where_the_lease_goes_is_said_when_there_is_a_choice(
    cli: Cli, domains: dict[str, Any]
) -> None:
    answers = {**WELL, "Host.getCapabilities": {"domains": domains}}
    end, called = await told(cli, answers, *SUBMIT)
    assert (end.code, end.error["data"]["name"]) == (2, "--domain")
    for sd_id in domains:
        assert sd_id in end.error["message"]
    assert "Lease.create" not in called


# --- a lost answer --------------------------------------------------------------------------------


async def reached(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the command is another process
            await trio.sleep(0.01)


async def never(call: Call) -> Any:
    await trio.sleep_forever()


async def test_a_submit_without_an_answer_says_that_nobody_knows_and_how_to_look(cli: Cli) -> None:
    answers = {**WELL, "SDM.copy_data": never}
    end, called = await told(cli, answers, *SUBMIT, "--timeout", 1)
    assert (end.code, end.error["kind"]) == (5, "NotKnown")
    assert f"whether job {JOB} was begun is not known" in end.error["message"]
    assert f"leasehold job show {JOB} --host unix:" in end.error["message"]
    assert f"leasehold job resolve {SD} {JOB} --host unix:" in end.error["message"]
    assert end.error["data"]["job_id"] == JOB
    assert "Lease.delete" not in called, "the job may need its lease"


async def test_a_second_signal_leaves_a_host_that_does_not_answer(cli: Cli) -> None:
    called: list[str] = []
    async with serving(host({**WELL, "SDM.copy_data": never}, called)) as (_, there):
        with cli.started("job", *SUBMIT, "--host", there, "--json") as process:
            await reached(lambda: "SDM.copy_data" in called)
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            end = await trio.to_thread.run_sync(ended, process)
    assert (end.code, end.error["code"], end.error["kind"]) == (4, 443, "LeftEarly")
    assert f"leasehold job show {JOB}" in end.error["data"]["look"]


async def test_a_signal_before_anything_was_made_leaves_nothing(cli: Cli) -> None:
    called: list[str] = []
    async with serving(host({**WELL, "Host.getCapabilities": never}, called)) as (_, there):
        with cli.started("job", *SUBMIT, "--host", there, "--json") as process:
            await reached(lambda: "Host.getCapabilities" in called)
            process.send_signal(signal.SIGINT)
            end = await trio.to_thread.run_sync(ended, process)
    assert (end.code, end.error["kind"]) == (4, "ActionStopped")
    assert "Lease.create" not in called


RECORD = {"type": "JOB", "job_id": JOB, "generation": 1, "job_status": "SUCCEEDED"}
DONE: Answers = {
    **WELL,
    "SDM.copy_data": True,
    "Host.getJobs": {JOB: {"id": JOB, "status": "done", "progress": 100}},
    "Job.info": {"id": JOB, "status": "done", "progress": 100},
}


def free(**changed: Any) -> dict[str, Any]:
    return {"owners": [], "version": 1, "metadata": {**RECORD, **changed}}


@pytest.mark.parametrize("words", [SUBMIT[:1], ("copy",)], ids=lambda words: words[0])
@pytest.mark.parametrize(
    "status",
    [
        free(job_status="PENDING", generation=0),
        free(job_status="FENCED"),
        free(generation=2),
        free(job_id=SD),
        {"owners": [], "version": 0, "metadata": {}},
        {"owners": [7], "version": 1},
        NoSuchLease(JOB),
        [],
    ],
    ids=str,
)
async def test_a_copy_is_not_done_on_the_word_of_its_host_alone(
    cli: Cli, words: tuple[str, ...], status: Any
) -> None:
    called: list[str] = []
    answers = {**DONE, "Lease.status": one_by_one(NoSuchLease(JOB), status)}
    command = ("job", *SUBMIT, "--wait") if words == SUBMIT[:1] else ("copy", *SUBMIT[1:])
    async with serving(host(answers, called)) as (_, there):
        options = ("--host", there, "--timeout", 1, "--json")
        end = await trio.to_thread.run_sync(partial(cli, *command, *options))
    assert (end.code, end.error["kind"]) == (7, "Doubtful")
    assert f"leasehold job resolve {SD} {JOB}" in end.error["message"]
    assert "Lease.delete" not in called


async def test_a_lease_that_is_just_being_released_is_waited_for(cli: Cli) -> None:
    held = {"owners": [1], "version": 1}
    answers = {**DONE, "Lease.status": one_by_one(NoSuchLease(JOB), held, held, free())}
    end, called = await told(cli, answers, *SUBMIT, "--wait")
    assert (end.code, end.json["status"]) == (0, "done")
    assert called.count("Lease.status") == 4


def one_by_one(*answers: Any) -> Callable[[Call], Awaitable[Any]]:
    """The answers to calls of one method, the last one again and again."""
    left = list(answers)

    async def answer(call: Call) -> Any:
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


async def test_a_job_that_is_forgotten_at_its_end_has_ended_all_the_same(cli: Cli) -> None:
    running = {"id": JOB, "status": "running"}
    answers = {
        "Job.abort": True,
        "Job.info": one_by_one(running, NoSuchJob(JOB)),
        "Host.getJobs": {JOB: {"id": JOB, "status": "aborted"}},
    }
    end, called = await told(cli, answers, "abort", JOB)
    assert (end.code, end.json["status"]) == (0, "aborted")
    assert called.count("Job.info") == 2


async def test_only_changes_of_a_job_are_told(cli: Cli) -> None:
    running = {"id": JOB, "status": "running", "progress": 3}
    done = {"id": JOB, "status": "done", "progress": 100}
    jobs = one_by_one({JOB: running}, {JOB: running}, {JOB: running}, {JOB: done})
    end, called = await told(cli, {"Host.getJobs": jobs}, "watch", JOB)
    assert end.code == 0
    assert [json.loads(line) for line in end.out.splitlines()] == [running, done]
    assert called.count("Host.getJobs") == 4


async def test_lines_in_a_log_are_few(cli: Cli) -> None:
    called: list[str] = []
    looks = [{JOB: {"id": JOB, "status": "running", "progress": n}} for n in range(4)]
    jobs = one_by_one(*looks, {JOB: {"id": JOB, "status": "done", "progress": 100}})
    async with serving(host({"Host.getJobs": jobs}, called)) as (_, there):
        end = await trio.to_thread.run_sync(partial(cli, "job", "watch", JOB, "--host", there))
    lines = end.out.splitlines()
    assert (lines[0], lines[-1]) == (f"{JOB} running 0%", f"{JOB} done 100%")
    assert len(lines) < 5 == called.count("Host.getJobs")


async def test_a_lease_without_an_answer_begins_no_job(cli: Cli) -> None:
    end, called = await told(cli, {**WELL, "Lease.create": never}, *SUBMIT, "--timeout", 1)
    assert end.code == 5
    assert "no job was begun, a lease may have been made" in end.error["message"]
    assert "SDM.copy_data" not in called


async def test_a_refused_job_takes_its_lease_back(cli: Cli) -> None:
    end, called = await told(cli, {**WELL, "SDM.copy_data": Error()}, *SUBMIT)
    assert (end.code, end.error["code"]) == (1, 100)
    assert called[-2:] == ["Lease.delete", "Task.getStatus"]


async def test_the_lease_of_a_job_that_came_before_is_left_to_it(cli: Cli) -> None:
    """Two gave the same job at the same time, and both made its lease."""
    end, called = await told(cli, {**WELL, "SDM.copy_data": JobExists(JOB)}, *SUBMIT)
    assert (end.code, end.error["code"]) == (6, 69)
    assert "Lease.delete" not in called


async def test_a_lease_that_is_held_is_not_deleted_and_neither_is_its_job(cli: Cli) -> None:
    lease = {"sd_id": SD, "lease_id": JOB}
    info = {"id": JOB, "status": "failed", "destination": {"lease": lease}}
    answers = {**WELL, "Job.info": info, "Lease.status": {"owners": [1], "version": 3}}
    end, called = await told(cli, answers, "delete", JOB, "--lease")
    assert (end.code, end.error["code"]) == (6, 651)
    assert called == ["Job.info", "Lease.status"]


async def test_a_lease_that_cannot_be_taken_back_is_named(cli: Cli) -> None:
    answers = {**WELL, "SDM.copy_data": Error(), "Lease.delete": Error()}
    end, _ = await told(cli, answers, *SUBMIT)
    assert (end.code, end.error["code"]) == (1, 100)
    assert f"could not be deleted ({SD} {JOB})" in end.err


async def test_an_error_of_the_task_is_the_error_of_the_command(cli: Cli) -> None:
    failure = {"code": 4003, "kind": "NoSpace", "message": "no space for lease", "data": {}}
    answers = {**WELL, "Task.getStatus": {"code": 4003, "message": "x", "error": failure}}
    end, called = await told(cli, answers, *SUBMIT)
    assert (end.code, end.error) == (6, failure)
    assert "SDM.copy_data" not in called


# --- TLS ------------------------------------------------------------------------------------------


@pytest.mark.tools("openssl")
async def test_certificates_are_named_by_options_or_by_the_environment(
    cli: Cli, sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = dict(zip(("ca", "certificate", "key"), sites[0].files("engine"), strict=True))
    options = [word for name, path in files.items() for word in (f"--{name}", path)]
    doors = await tls_doors("127.0.0.1", 0, Secrets(sites[0].server()))
    port = doors[0].listener.socket.getsockname()[1]
    command = ("job", "list", "--host", f"tls://127.0.0.1:{port}", "--json")
    answers: Answers = {"Job.list": {"jobs": [], "next": None}}
    async with serving(host(answers, []), doors=doors):
        end = await trio.to_thread.run_sync(lambda: cli(*command, *options))
        assert (end.code, end.json) == (0, {"jobs": [], "next": None})
        assert (await trio.to_thread.run_sync(lambda: cli(*command))).code == 2
        for name, path in files.items():
            monkeypatch.setenv(f"LEASEHOLD_{name.upper()}", path)
        end = await trio.to_thread.run_sync(lambda: cli(*command))
        assert end.code == 0
        monkeypatch.setenv("LEASEHOLD_CA", sites[1].files("engine")[0])
        end = await trio.to_thread.run_sync(lambda: cli(*command))
        assert (end.code, end.error["code"]) == (5, 4107)


def test_files_of_tls_that_are_no_good_are_bad_input(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    files = [
        word for name in ("ca", "certificate", "key") for word in (f"--{name}", tmp_path / "x")
    ]
    end = cli("job", "list", "--host", "tls://127.0.0.1:1", *files, "--json")
    assert end.code == 2
