"""`leasehold job watch`: what is shown of jobs while they run."""

import json
import os
import pty
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.cli.hosted import MIB, HostCli
from tests.cli.run import COMMAND, PATIENCE, ended, until

pytestmark = pytest.mark.tools("qemu-img")


def objects(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_watching_ends_with_the_last_of_the_named_jobs(shared_agent: HostCli) -> None:
    first = shared_agent.submitted(shared_agent.disk(4), shared_agent.target(), limit=4 * MIB)
    second = shared_agent.finished()
    told = shared_agent("job", "watch", first, second, "--json")
    assert told.code == 0
    seen = objects(told.out)
    assert [one["id"] for one in seen].count(second) == 1
    of_first = [one for one in seen if one["id"] == first]
    assert (of_first[-1]["status"], of_first[-1]["progress"]) == ("done", 100)
    progress = [one.get("progress", 0) for one in of_first]
    assert progress == sorted(progress)


def test_watching_says_in_lines_what_happens(shared_agent: HostCli) -> None:
    job_id = shared_agent.slow()
    with shared_agent.started("job", "watch", job_id) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        while "of 40.0M" not in lines[-1]:
            lines.append(process.stdout.readline())
        shared_agent.abort(job_id)
        told = ended(process)
    lines += told.out.splitlines()
    assert told.code == 4
    assert all(line.startswith(job_id) for line in lines)
    assert lines[-1].startswith(f"{job_id} aborted")
    assert len(lines) < 15, "not one for each look"


def test_the_worst_end_is_the_end_of_the_watching(shared_agent: HostCli) -> None:
    done, failed, aborted = shared_agent.finished(), shared_agent.failed(), shared_agent.slow()
    shared_agent.abort(aborted)
    told = shared_agent("job", "watch", done, failed, aborted)
    assert told.code == 1
    assert f"{failed} failed: " in told.out
    assert "does not exist" in told.out
    assert shared_agent("job", "watch", done, aborted).code == 4
    assert shared_agent("job", "watch", done).code == 0


def test_a_named_job_that_is_not_there_ends_the_watching(shared_agent: HostCli) -> None:
    told = shared_agent("job", "watch", shared_agent.finished(), str(uuid.uuid4()), "--json")
    assert told.code == 3
    assert objects(told.out)[-1]["error"]["code"] == 66


def test_without_names_the_jobs_that_are_active_and_those_that_come_are_watched(
    shared_agent: HostCli,
) -> None:
    running, over = shared_agent.slow(), shared_agent.finished()
    with shared_agent.started("job", "watch", "--json") as process:
        assert process.stdout is not None
        seen = [json.loads(process.stdout.readline())]
        fast = shared_agent.finished()
        while not any((one["id"], one["status"]) == (fast, "done") for one in seen):
            seen.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        told = ended(process)
    assert (told.code, objects(told.out)[-1]["error"]["code"]) == (4, 443)
    ids = {one["id"] for one in seen}
    assert running in ids
    assert over not in ids
    shared_agent.abort(running)


def test_a_signal_ends_the_watching_and_not_the_job(shared_agent: HostCli) -> None:
    job_id = shared_agent.slow()
    with shared_agent.started("job", "watch", job_id) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(job_id)
        process.send_signal(signal.SIGTERM)
        told = ended(process)
    assert (told.code, told.err) == (4, "leasehold: not watched any more; the jobs go on\n")
    assert shared_agent.info(job_id)["status"] == "running"
    shared_agent.abort(job_id)


def test_a_reader_that_goes_away_ends_the_watching(shared_agent: HostCli) -> None:
    job_id = shared_agent.slow()
    with shared_agent.started("job", "watch") as process:
        assert process.stdout is not None
        assert job_id in process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
    shared_agent.abort(job_id)


def test_a_reader_that_does_not_read_does_not_hold_up_a_signal(shared_agent: HostCli) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    job_id = shared_agent.slow()
    try:
        with shared_agent.started("job", "watch", job_id, "--json", stdout=writing) as process:
            stuck = f"/proc/{process.pid}/task"
            until(lambda: any(_in_a_write(f"{stuck}/{one}") for one in os.listdir(stuck)))
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 4
    finally:
        os.close(reading)
        os.close(writing)
    shared_agent.abort(job_id)


def _in_a_write(thread: str) -> bool:
    """Source: proc(5), wchan; a pipe that is full."""
    try:
        with open(f"{thread}/wchan") as file:
            return "pipe_write" in file.read()
    except OSError:
        return False


def test_a_restart_of_the_agent_is_waited_for(own_agent: HostCli) -> None:
    job_id = own_agent.slow()
    with own_agent.started("job", "watch", job_id, "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        own_agent.agent.stop()
        assert "trying again for 30 s" in process.stderr.readline()
        own_agent.agent.start()
        assert "answers again" in process.stderr.readline()
        own_agent.abort(job_id)
        told = ended(process)
    assert told.code == 4, told
    assert objects(told.out)[-1]["status"] == "aborted"


def test_an_agent_that_is_gone_for_good_ends_the_watching(own_agent: HostCli) -> None:
    job_id = own_agent.slow()
    with own_agent.started("job", "watch", job_id, "--json", "--timeout", 1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        own_agent.agent.kill()
        told = ended(process)
    assert told.code == 5
    assert objects(told.out)[-1]["error"]["code"] == 4107


def test_on_a_terminal_there_are_bars(shared_agent: HostCli) -> None:
    first, second = shared_agent.slow(), shared_agent.failed()
    with on_a_terminal(shared_agent, "job", "watch", first, second) as screen:
        until(lambda: b"of 40.0M" in screen)
        shared_agent.abort(first)
    seen = screen.decode(errors="replace")
    assert "━" in seen
    assert f"{first} aborted" in seen
    assert f"{second} failed: " in seen
    assert "\x1b[?25l" not in seen, "a killed process could not show the cursor again"


@contextmanager
def on_a_terminal(cli: HostCli, *arguments: str) -> Iterator[bytearray]:
    """What a command shows on a terminal of 150 columns; its end is waited for after the body."""
    ours, theirs = pty.openpty()
    environment = {**cli.environment, "COLUMNS": "150", "TERM": "xterm-256color"}
    screen = bytearray()

    def read() -> None:
        with suppress(OSError):  # EIO: the terminal has no writer any more
            while piece := os.read(ours, 4096):
                screen.extend(piece)

    process = subprocess.Popen(
        [*COMMAND, *arguments], env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield screen
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        reader.join(PATIENCE)
        os.close(ours)
