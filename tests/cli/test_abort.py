"""Signals, kills and readers that go away in the middle of a copy."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.run import PATIENCE, Cli, ended, until, writers

pytestmark = pytest.mark.tools("qemu-img")

JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(1 << 20) * 40)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def sd(cli: Cli, tmp_path: Path) -> str:
    return cli.domain(tmp_path / "mount")


@contextmanager
def copying(
    cli: Cli, source: Path, target: Path, sd: str, *more: object, **pipes: object
) -> Iterator[subprocess.Popen[str]]:
    """A copy of 40 MiB at 1 MiB/s, in the middle."""
    arguments = ("copy", source, target, "--domain", sd, "--job-id", JOB, "--limit", "1M")
    with cli.started(*arguments, *more, **pipes) as process:
        until(lambda: writers(target) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        yield process


def record(cli: Cli, sd: str) -> dict[str, object]:
    """The record in the lease, which must be free."""
    status = cli("lease", "status", sd, JOB, "--json").json
    assert status["owners"] == []
    metadata: dict[str, object] = status["metadata"]
    return metadata


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_aborts_the_copy(
    cli: Cli, source: Path, target: Path, sd: str, number: signal.Signals
) -> None:
    with copying(cli, source, target, sd) as process:
        assert cli("lease", "status", sd, JOB, "--json").json["owners"] == [1]
        process.send_signal(number)
        told = ended(process)
    assert told.code == 4
    assert writers(target) == []
    assert record(cli, sd)["job_status"] == "FAILED"
    assert "was aborted" in told.err
    assert f"leasehold lease status {sd} {JOB}" in told.err


def test_an_abort_with_json_is_one_object(cli: Cli, source: Path, target: Path, sd: str) -> None:
    with copying(cli, source, target, sd, "--json") as process:
        process.send_signal(signal.SIGINT)
        told = ended(process)
    assert (told.code, told.error["code"]) == (4, 443)
    data = told.error["data"]
    assert (data["job_id"], data["sd_id"]) == (JOB, sd)
    assert data["job"]["status"] == "aborted"
    assert data["lease"]["metadata"]["job_status"] == "FAILED"


def test_many_signals_leave_no_writer_and_do_not_tear_the_lease(
    cli: Cli, source: Path, target: Path, sd: str
) -> None:
    with copying(cli, source, target, sd) as process:
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.001)  # faster, and Python drowns in its own handlers
        assert writers(target) == []
        told = ended(process)
    assert told.code == 4
    assert "stopping already" in told.err
    assert record(cli, sd)["job_status"] == "FAILED"


def test_a_signal_at_any_time_before_the_copy_is_an_abort_or_comes_too_early(
    cli: Cli, source: Path, target: Path, sd: str
) -> None:
    """At the moments that can be seen from outside: imports, checks, lease made, job noted."""
    for delay in (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4):
        arguments = ("copy", source, target, "--domain", sd, "--limit", "1M")
        with cli.started(*arguments) as process:
            try:
                process.wait(delay)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
            code = process.wait(PATIENCE)
        assert code in (4, -signal.SIGTERM), (delay, code)  # the latter: Python was starting
        assert writers(target) == []
        for lease in cli("lease", "list", sd, "--json").json["leases"]:
            assert lease["owners"] == []
            assert (code, lease["job_status"]) in ((4, "FAILED"), (4, "PENDING"))
            cli("lease", "delete", sd, lease["lease_id"])


def test_a_kill_leaves_a_free_pending_lease_that_is_taken_up_again(
    cli: Cli, source: Path, target: Path, sd: str
) -> None:
    with copying(cli, source, target, sd) as process:
        process.kill()
        process.wait(PATIENCE)
        until(lambda: not writers(target))
    assert record(cli, sd)["job_status"] == "PENDING"
    told = cli("copy", source, target, "--domain", sd, "--job-id", JOB, "--json")
    assert told.code == 0
    assert target.read_bytes() == source.read_bytes()


def test_after_a_kill_the_job_is_fenced_and_never_runs_again(
    cli: Cli, source: Path, target: Path, sd: str
) -> None:
    with copying(cli, source, target, sd) as process:
        process.kill()
        process.wait(PATIENCE)
        until(lambda: not writers(target))
    assert cli("lease", "fence", sd, JOB, "--job-id", JOB, "--generation", 0).code == 0
    assert record(cli, sd)["job_status"] == "FENCED"
    told = cli("copy", source, target, "--domain", sd, "--job-id", JOB, "--json")
    assert (told.code, told.error["code"]) == (6, 912)


def test_a_job_that_runs_is_not_run_a_second_time(
    cli: Cli, source: Path, target: Path, tmp_path: Path, sd: str
) -> None:
    with copying(cli, source, target, sd):
        told = cli("copy", source, tmp_path / "b", "--domain", sd, "--job-id", JOB, "--json")
        assert (told.code, told.error["code"]) == (6, 651)
        assert cli("lease", "status", sd, JOB, "--json").json["owners"] == [1]


def test_readers_that_go_away_do_not_stop_a_copy(
    cli: Cli, source: Path, target: Path, sd: str
) -> None:
    arguments = ("copy", source, target, "--domain", sd, "--limit", "8M", "--log-level", "debug")
    with cli.started(*arguments, "--job-id", JOB, "--keep-lease") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        assert process.wait(PATIENCE) == 0
    assert record(cli, sd)["job_status"] == "SUCCEEDED"
    assert target.read_bytes() == source.read_bytes()


def test_a_reader_that_does_not_read_does_not_stop_a_copy(
    cli: Cli, source: Path, target: Path, sd: str
) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    try:
        arguments = ("copy", source, target, "--domain", sd, "--limit", "8M", "--job-id", JOB)
        with cli.started(*arguments, "--keep-lease", stderr=writing) as process:
            assert process.wait(PATIENCE) == 0
        assert record(cli, sd)["job_status"] == "SUCCEEDED"
    finally:
        os.close(reading)
        os.close(writing)


def test_progress_in_a_log_is_a_line_every_few_seconds(
    cli: Cli, source: Path, target: Path, sd: str
) -> None:
    with cli.started("copy", source, target, "--domain", sd, "--limit", "5M") as process:
        told = ended(process)
    assert told.code == 0
    lines = [line for line in told.err.splitlines() if "of 40.0M" in line]
    assert 1 <= len(lines) <= 4, told.err
    assert "/s" in lines[0]
    assert "left" in lines[0]
