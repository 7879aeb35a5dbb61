"""Logs: one line a record, the same for all loggers, whatever is in it and whoever reads it."""

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from host import subject
from host.spawning import spawner
from host.wire.call import Call, Peer
from host.wire.calling import Caller
from processes import logs
from protocol import jsonrpc
from tests.cli.run import ROOT
from tests.faults.command import until
from tests.host.jobs import Place
from tests.host.test_folder import spec
from tests.servers import WAIT

START = """
import logging, os, sys, structlog
from processes import logs
from protocol.settings import Log
log = structlog.get_logger()
logs.to_stderr(Log(level={level!r}, format={format!r}))
"""


def run(body: str, *, level: str = "info", format: str = "json", **options: Any) -> bytes:
    """What a program that logs writes to stderr; it ends well."""
    program = START.format(level=level, format=format) + body
    command = [sys.executable, "-W", "error", "-c", program]
    options = {"stderr": subprocess.PIPE, **options}
    done = subprocess.run(command, cwd=ROOT, timeout=WAIT, check=False, **options)
    said: bytes = done.stderr or b""
    assert done.returncode == 0, said.decode()
    return said


def lines(body: str, **options: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(body, **options).splitlines()]


def test_a_line_says_when_how_bad_who_and_what_in_this_order() -> None:
    [line] = lines("log.warning('slow', domain='d1', seconds=1.5)")
    assert list(line) == ["time", "level", "logger", "event", "domain", "seconds"]
    assert (line["level"], line["logger"], line["event"]) == ("warning", "__main__", "slow")
    assert (line["domain"], line["seconds"]) == ("d1", 1.5)
    age = datetime.now(UTC) - datetime.fromisoformat(line["time"])
    assert timedelta() <= age < timedelta(seconds=WAIT)
    assert line["time"].endswith("Z")


def test_records_of_the_standard_library_look_the_same() -> None:
    body = """
structlog.contextvars.bind_contextvars(flow_id="f1", peer="uid:0")
logging.getLogger("jobs.job").info("job %s: %s", 7, "done", extra={"job": "7"})
log.info("call", method="Host.ping2")
log.info("%s of %d", "one", 2)
"""
    library, ours, formatted = lines(body)
    about = {"flow_id": "f1", "peer": "uid:0"}
    del library["time"], ours["time"]
    what = {"level": "info", "logger": "jobs.job", "event": "job 7: done"}
    assert library == {**what, **about, "job": "7"}
    what = {"level": "info", "logger": "__main__", "event": "call"}
    assert ours == {**what, **about, "method": "Host.ping2"}
    assert formatted["event"] == "one of 2"


@pytest.mark.parametrize(
    ("level", "seen"),
    [("debug", "dive"), ("info", "ive"), ("warning", "ve"), ("error", "e")],
)
def test_what_is_less_than_the_level_is_not_logged(level: str, seen: str) -> None:
    body = "for one in (log, logging.getLogger('x')):\n"
    for letter, name in zip("dive", ["debug", "info", "warning", "error"], strict=True):
        body += f"    one.{name}('{letter}')\n"
    assert "".join(line["event"] for line in lines(body, level=level)) == seen * 2


def test_a_traceback_stays_in_its_line() -> None:
    body = """
try:
    raise ZeroDivisionError("a\\nb")
except ZeroDivisionError as e:
    log.exception("it failed", job="j")
    logging.getLogger("x").exception("it failed")
    log.error("it failed", exc_info=e)
"""
    for line in lines(body):
        assert line["event"] == "it failed"
        assert line["exception"].startswith("Traceback")
        assert line["exception"].endswith("ZeroDivisionError: a\nb")


HOSTILE = """
name = "a\\n\\x1b[31m\\x9b\\u202e\\ud800\\x00b"
log.info(name, method=name, nested={name: [name, {1, 2}, b"\\xff", float("nan")]}, wrong=object())
log.info("keys", nested={("a", 1): 2})
loop = []
loop.append(loop)
log.info("loop", loop=loop)
logging.getLogger(name).info("%d", "no number")
log.info("long", name="x" * 10_000_000)
"""


def test_nothing_in_a_record_gets_out_of_its_line() -> None:
    said = run(HOSTILE)
    assert said.isascii()
    assert not any(byte < 32 and byte != 10 for byte in said)
    found = [json.loads(line) for line in said.splitlines()]
    assert len(found) == 5
    assert found[0]["method"] == "a\n\x1b[31m\x9b\u202e\ud800\x00b"
    assert found[3]["level"] == "error"
    assert "TypeError" in found[3]["error"]
    assert found[4]["name"].endswith("(10000000 characters)")
    assert len(found[4]["name"]) < 5000


def test_nothing_in_a_record_gets_out_of_its_line_of_text() -> None:
    said = run(HOSTILE, format="text").decode()
    assert len(said.splitlines()) == 5
    assert all(line.isprintable() for line in said.split("\n"))


def test_text_is_for_people() -> None:
    body = "log.info('job done', job='j1', reason='no more', empty='')"
    [line] = run(body, format="text").decode().splitlines()
    assert line[20:] == "INFO    __main__: job done job=j1 reason='no more'"
    datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S")


def test_no_line_of_a_traceback_as_text_looks_like_a_record() -> None:
    body = """
try:
    raise OSError("x\\n2026-01-01 00:00:00 INFO    forged: line")
except OSError:
    log.exception("it failed")
"""
    first, *rest = run(body, format="text").decode().splitlines()
    assert first.endswith("ERROR   __main__: it failed")
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in rest)


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize(
    "gone",
    [
        "os.close(2)",
        "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)",
        "r, w = os.pipe(); os.dup2(w, 2); os.close(w); os.close(r)",
    ],
    ids=["closed", "full", "no reader"],
)
def test_that_nobody_can_read_hurts_nobody(gone: str, format: str) -> None:
    body = f"{gone}\nlog.warning('one')\nlogging.getLogger('x').warning('two')\nos._exit(0)"
    assert run(body, format=format) == b""


def test_auto_is_json_in_a_file_and_text_on_a_terminal(tmp_path: Path) -> None:
    body = "log.info('here', job='j1')"
    with (tmp_path / "log").open("wb") as file:
        run(body, format="auto", stderr=file)
    assert json.loads((tmp_path / "log").read_bytes())["event"] == "here"
    ours, theirs = pty.openpty()
    try:
        run(body, format="auto", stderr=theirs)
        assert os.read(ours, 1 << 12).rstrip().endswith(b"__main__: here job=j1")
    finally:
        os.close(ours)
        os.close(theirs)


# --- what a line is about ---------------------------------------------------------------------


LEASE = {"sd_id": "s", "lease_id": "l"}


@pytest.mark.parametrize(
    ("params", "about"),
    [
        ({}, {}),
        ({"lease": LEASE}, {"lease": "l"}),
        ({"job_id": "j", "destination": {"lease": LEASE}}, {"job": "j", "lease": "l"}),
        ({"job_id": "x" * 1000}, {"job": "x" * 128}),
        ({"job_id": ["j"], "lease": {"lease_id": 7}}, {}),
        ({"job_id": "", "lease": "l", "destination": [1]}, {}),
        ({"lease": None, "destination": {"lease": None}}, {}),
    ],
)
def test_a_call_is_about_the_job_and_the_lease_that_it_names(
    params: dict[str, Any], about: dict[str, str]
) -> None:
    assert subject.of_call(params) == about


def test_a_job_is_about_itself_and_its_flow() -> None:
    wanted = spec(flow_id="f", destination={"endpoint_type": "div"})
    assert subject.of_job(wanted) == {"flow_id": "f", "job": str(wanted.job_id)}


async def test_the_line_of_a_call_names_its_job_and_its_lease() -> None:
    async def dispatch(call: Call) -> None:
        structlog.get_logger().info("inside")

    caller = Caller(dispatch, (), 1 << 10)
    bodies = [{"lease": LEASE}, {"job_id": "j"}, [], {}]
    request = [{"jsonrpc": "2.0", "id": 1, "method": "x", "params": one} for one in bodies]
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as seen:
        await caller.answer(
            jsonrpc.read(json.dumps(request).encode()), Peer("engine", "me"), "flow"
        )
    about = [{key: line[key] for key in ("job", "lease") if key in line} for line in seen]
    assert about == [{"lease": "l"}] * 2 + [{"job": "j"}] * 2 + [{}] * 4


# --- workers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_agent", "of_worker"),
    [("debug", "debug"), ("info", "warning"), ("warning", "warning"), ("error", "error")],
)
def test_a_worker_leaves_to_the_agent_what_is_usual(of_agent: str, of_worker: str) -> None:
    assert logs.Style(of_agent, "json").of_worker == logs.Style(of_worker, "json")


AGENT = """
import json, msgspec, trio
from pathlib import Path
from host.agent import agent
from host.folder import Spec
from host.journal import Journal

async def main():
    async with agent(Journal(Path(sys.argv[1])), concurrency=1, autodelete=-1) as made:
        job = await made.submit(msgspec.json.decode(sys.argv[2], type=Spec))
        await job.wait()

trio.run(main)
"""


@pytest.mark.tools("qemu-img")
@pytest.mark.parametrize("level", ["info", "debug"])
async def test_agent_and_worker_log_alike_with_job_lease_and_flow(place: Place, level: str) -> None:
    wanted = json.dumps(await place.wanted(flow_id="flow 1"))
    job_id = json.loads(wanted)["job_id"]
    command = [sys.executable, "-c", START.format(level=level, format="json") + AGENT]
    done = await trio.run_process(
        [*command, str(place.journal.path), wanted], capture_stderr=True, cwd=ROOT
    )
    found = [json.loads(line) for line in done.stderr.splitlines()]
    about = {"job": job_id, "lease": job_id, "flow_id": "flow 1"}
    ours = [line for line in found if about.items() <= line.items()]
    moves = [line["event"].partition(": ")[2] for line in ours if line["logger"] == "jobs.job"]
    agent, worker = ["running -> done"], ["pending -> running", "running -> done"]
    assert {line["job"] for line in found if line["logger"] == "jobs.job"} == {job_id}
    assert sorted(moves) == sorted(agent if level == "info" else agent + worker)


async def test_what_a_worker_cannot_do_is_one_line_in_the_style_of_the_agent(
    place: Place, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_style", logs.Style("info", "json"))
    folder = place.journal.add(await place.spec())
    (folder.path / "spec").write_text("no JSON")
    async with spawner() as warm:
        await warm.start(folder)
        await until(lambda: not folder.alive)
    [line] = map(json.loads, capfd.readouterr().err.splitlines())
    assert (line["event"], line["job"]) == ("a worker failed", folder.job_id)
    assert (line["level"], line["logger"]) == ("error", "host.spawner")
    assert "DecodeError" in line["exception"]


HEAVY = ("prometheus_client", "starlette", "hypercorn", "anyio", "h11", "h2")


def test_the_warm_parent_imports_nothing_that_only_the_agent_needs() -> None:
    program = "import sys, host.spawner; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    roots = {name.partition(".")[0] for name in done.stdout.split()}
    assert "host" in roots
    assert roots.isdisjoint(HEAVY)
