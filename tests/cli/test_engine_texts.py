"""What an engine says, as commands tell it: pure functions."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from cli import exits
from cli.engine_client import read
from cli.engine_following import Following, exit_code, failure, told
from cli.engine_objects import domain_id, number, rows_of, size, text
from cli.engine_text import job_text, kept_text
from cli.engine_watching import entry, events, text_of
from cli.output import Output
from cli.progress import LINE_EVERY, Bar, Lines, line
from protocol.errors import ConnectionLost
from protocol.reported import Reported

JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
ERROR = {"code": 4440, "kind": "CopyFailed", "message": "copy job failed", "data": {}}


# --- answers -------------------------------------------------------------------------------------


def answer(status: int, body: str, **headers: str) -> httpx.Response:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return httpx.Response(status, text=body, headers=named)


@pytest.mark.parametrize(
    ("given", "code", "kind", "message"),
    [
        (answer(409, '{"error": {"code": 4402, "kind": "DiskLocked", "message": "m", "data": {}}}'),
         4402, "DiskLocked", "m"),
        (answer(404, '{"detail": "no disk", "reason": "Not Found"}', leasehold_code="4400"),
         4400, "NoSuchObject", "no disk"),
        (answer(409, '{"detail": "locked"}', leasehold_code="4402"), 4402, "DiskLocked", "locked"),
        (answer(404, '{"fault": {"detail": "no disk"}}'), 4400, "NoSuchObject", "no disk"),
        (answer(401, '{"error": "access_denied", "error_description": "wrong"}'),
         4409, "Unauthorized", "wrong"),
        (answer(403, "{}"), 4410, "NotAllowed", "status 403"),
        (answer(429, "{}"), 4411, "TooManyRequests", "status 429"),
        (answer(503, "{}"), 4407, "DatabaseGone", "status 503"),
        (answer(400, '{"error": {"code": 100, "message": "m"}}'), 1000, "BadParameter", "m"),
        (answer(502, "<html>"), 100, "Error", "status 502"),
        (answer(500, "[]"), 100, "Error", "status 500"),
        (answer(409, '{"detail": 5}', leasehold_code="x"), 4403, "WrongState", "5"),
    ],
)  # fmt: skip
def test_an_error_of_the_engine_is_one_of_ours(
    given: httpx.Response, code: int, kind: str, message: str
) -> None:
    with pytest.raises(Reported) as caught:
        read(given, "http://e")
    told = caught.value.to_rpc()
    assert (told["code"], told["kind"], told["message"]) == (code, kind, message)


def test_an_answer_is_its_json() -> None:
    assert read(answer(200, '{"a": 1}'), "http://e") == {"a": 1}
    assert read(answer(200, ""), "http://e") == {}


@pytest.mark.parametrize("given", [answer(200, "<html>"), answer(200, '"x"'), answer(302, "")])
def test_what_answers_and_is_no_engine_is_told(given: httpx.Response) -> None:
    with pytest.raises(ConnectionLost, match="no engine answers there"):
        read(given, "http://e")


# --- jobs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "verdict", "code"),
    [
        ("succeeded", None, exits.OK),
        ("succeeded", {"end": "done", "fenced": False}, exits.OK),
        ("failed", None, exits.FAILED),
        ("failed", {"end": "failed", "fenced": False}, exits.FAILED),
        ("failed", {"end": "failed", "fenced": True}, exits.ABORTED),
        ("quarantined", None, exits.FAILED),
        ("aborted", None, exits.ABORTED),
        ("unresolved", {"end": "unresolved"}, exits.UNRESOLVED),
        ("of another version", None, exits.FAILED),
    ],
)
def test_the_exit_code_tells_how_a_job_ended(
    state: str, verdict: dict[str, Any] | None, code: int
) -> None:
    assert exit_code({"state": state, "verdict": verdict}) == code


def test_why_a_job_failed_and_what_to_do_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    row: dict[str, Any] = {"id": JOB, "state": "failed", "error": ERROR}
    assert failure(row)["message"] == f"job {JOB} is failed: copy job failed"
    assert failure(row)["code"] == 4440
    verdict = {"end": "unresolved", "reason": "nobody answers", "action": "start a host"}
    row = {"id": JOB, "state": "unresolved", "error": None, "verdict": verdict}
    assert told(row, "", Output()) == exits.UNRESOLVED
    assert capfd.readouterr().err == (
        f"leasehold: job {JOB} is unresolved: nobody answers; start a host\n"
    )


def test_the_progress_of_a_job_is_what_is_known_of_it() -> None:
    following = Following("x")
    assert following.info() == {"status": "pending"}
    following.row = {"state": "running", "stage": "copy", "progress": None}
    assert following.info() == {"status": "running", "stage": "copy"}
    following.row["progress"] = {"percent": 12.9, "bytes": 5, "rate": 1.5}
    assert following.info() == {
        **{"status": "running", "stage": "copy"},
        **{"progress": 12, "bytes": 5, "rate": 1.5},
    }
    following.row["progress"] |= {"total_bytes": 50, "eta": 30.0}
    assert line(following.info()) == "copy 12%, 5 of 50, 1/s, 0:00:30 left"


def test_a_bar_has_no_percent_any_more_behind_the_copy(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("TERM", "xterm")
    following = Following("x")
    bar = Bar(following)
    none = {"percent": None, "bytes": None, "rate": None, "total_bytes": None, "eta": None}
    some = {"percent": 99.0, "bytes": 5, "rate": 1.5, "total_bytes": 50, "eta": 30.0}
    seen = []
    for stage, progress in (("copying", some), ("removing", none), ("copying again", some)):
        following.row = {"state": "running", "stage": stage, "progress": progress}
        bar.show(following.info())
        seen.append(capfd.readouterr().err)
    bar.close()
    assert ["99%" in text and "5 of 50" in text for text in seen] == [True, False, True]
    assert ["0%" in text for text in seen] == [False] * 3
    assert "removing" in seen[1]


def test_what_a_job_does_is_told_in_words() -> None:
    steps = [{"name": "lease", "title": "creating the lease"}]
    following = Following("x")
    following.row = {"state": "running", "stage": "lease", "steps": steps}
    assert following.info()["stage"] == "creating the lease"
    following.row["state"] = "undoing"
    assert following.info()["stage"] == "undoing: creating the lease"


async def test_a_log_is_told_what_is_new_and_nothing_twice(
    capfd: pytest.CaptureFixture[str], autojump_clock: MockClock
) -> None:
    lines = Lines(Output())
    for stage in ("creating", "creating", "copying"):
        await trio.sleep(LINE_EVERY)
        lines.show({"status": "running", "stage": stage})
    assert capfd.readouterr().err == "leasehold: creating\nleasehold: copying\n"


def test_a_job_is_shown_with_its_steps_and_its_story() -> None:
    verdict = {
        **{"end": "failed", "reason": "it was fenced", "action": "copy again"},
        "story": [{"text": "0 s  host-a: no answer [9]"}, {"host": "odd"}],
    }
    step = {"title": "Copying", "status": "failed", "started": 0.0, "error": "gone"}
    row = {
        **{"id": JOB, "type": "copy_disk", "state": "failed", "error": ERROR, "created": 0.0},
        **{"spec": {"disk": "d"}, "steps": [step], "verdict": verdict},
    }
    lines = job_text(row).splitlines()
    assert lines[0].split() == ["job:", JOB]
    assert any(line.startswith("error:") and "copy job failed" in line for line in lines)
    assert lines[-4:] == [
        "  1970-01-01 00:00:00  Copying: failed: gone",
        "verdict: failed: it was fenced",
        "  0 s  host-a: no answer [9]",
        "what to do: copy again",
    ]


def test_what_is_kept_is_shown_with_what_to_do() -> None:
    row = {
        **{"id": "q", "kind": "attachment", "object": "v", "domain": "d", "host": "h"},
        **{"command": JOB, "reason": "detach failed", "action": "look", "at": 0.0, "cleared": None},
    }
    assert kept_text(row).splitlines() == [
        "q: attachment v of domain d on host h, since 1970-01-01 00:00:00",
        "  why: detach failed",
        "  what to do: look",
        f"  of job {JOB}",
    ]


# --- oVirt's JSON --------------------------------------------------------------------------------


def test_what_is_kept_is_shown_with_the_names_that_domain_and_host_have() -> None:
    row = {"domain": "d", "host": "h", "domain_name": "data", "host_name": "host1"}
    assert "of domain data (d) on host host1 (h), since" in kept_text(row)
    row["host_name"] = None  # type: ignore[assignment]  # it was removed
    assert "of domain data (d) on host h, since" in kept_text(row)


def test_what_is_missing_in_an_object_is_empty() -> None:
    row = {"a": {"b": "3"}, "c": None, "n": "12", "s": "1073741824"}
    assert (text(row, "a", "b"), text(row, "a"), text(row, "c"), text(row, "x", "y")) == (
        *("3", "", ""),
        "",
    )
    assert (number(row, "n"), number(row, "x"), number(row, "a")) == (12, None, None)
    assert (size(row, "s"), size(row, "x")) == ("1.00G", "")


@pytest.mark.parametrize("given", [{}, None, {"disk": None}, {"disk": "x"}, {"other": [{}]}, "x"])
def test_a_list_without_objects_is_empty(given: object) -> None:
    assert rows_of(given, "disk") == []


def test_the_domain_of_a_disk() -> None:
    assert domain_id({"storage_domains": {"storage_domain": [{"id": "d"}]}}) == "d"
    assert domain_id({}) == ""


# --- events --------------------------------------------------------------------------------------


async def lines(*texts: str) -> AsyncIterator[str]:
    for one in texts:
        yield one


async def test_a_stream_is_read_as_the_standard_says() -> None:
    stream = lines(
        *("retry: 3000", "", ": alive", ""),
        *("id: 7", "event: audit.added", 'data: {"at": 1.0, "object": "o", "data": {}}', ""),
        *("event:job.progress", 'data:{"object": "c"}', ""),
        *("data: no json", "", "data: [1]", "", "event: x", "", 'data: {"a": 1}', ""),
        "data: {not whole",
    )
    assert [one async for one in events(stream)] == [
        {"at": 1.0, "object": "o", "data": {}, "kind": "audit.added", "id": "7"},
        {"object": "c", "kind": "job.progress"},
        {"a": 1, "kind": "message"},
    ]


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        ({"kind": "audit.added", "at": 0.0, "data": {"text": "added"}},
         "1970-01-01 00:00:00  audit.added  added"),
        ({"kind": "job.progress", "at": 0.0, "object": "c",
          "data": {"percent": 42.7, "bytes": 1 << 20, "rate": 1048576.0, "stage": "copy"}},
         "1970-01-01 00:00:00  job.progress  c  copy 42%, 1.00M, 1.00M/s"),
        ({"kind": "host.changed", "at": 0.0, "object": "h", "data": {"state": "up", "reason": ""}},
         "1970-01-01 00:00:00  host.changed  h  state=up"),
        ({"kind": "odd", "data": 5}, "  odd  None"),
    ],
)  # fmt: skip
def test_an_event_is_a_line_for_people(event: dict[str, Any], shown: str) -> None:
    assert text_of(event) == shown


def test_an_entry_of_the_log_is_a_line_for_people() -> None:
    row = {"time": 0, "severity": "normal", "description": "added", "user": {"user_name": "anna"}}
    assert entry(row) == "1970-01-01 00:00:00  normal  anna  added"
    assert entry({}) == "  None    None"
