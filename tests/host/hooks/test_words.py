"""The progress of a copy in vdsm's log."""

import pytest

from host.hooks.words import QUIET, Words
from jobs.progress import Progress


def told(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().err.splitlines()


def test_a_line_is_said_for_each_stage_and_each_tenth(capfd: pytest.CaptureFixture[str]) -> None:
    words = Words("disk x", now=lambda: 0.0)
    words(Progress(stage="waiting for the lock"))
    words(Progress(stage="waiting for the lock"))
    for percent in range(101):
        words(
            Progress(percent=percent, bytes=percent << 20, total_bytes=100 << 20, stage="copying")
        )
    words(Progress(stage="flushing", rate=1 << 20, eta=3))
    lines = told(capfd)
    assert lines[0] == "leasehold: disk x: waiting for the lock"
    assert lines[1] == "leasehold: disk x: copying 0%, 0 of 100M"
    assert lines[2] == "leasehold: disk x: copying 10%, 10.0M of 100M"
    assert len(lines) == 13
    assert lines[-1] == "leasehold: disk x: flushing 100%, 100M of 100M, 1.00M/s, 0:00:03 left"


def test_a_copy_that_stands_still_says_so_now_and_then(capfd: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    words = Words("disk x", now=lambda: now)
    for second in range(int(3 * QUIET)):
        now = float(second)
        words(Progress(percent=5.0, stage="copying"))
    assert len(told(capfd)) == 3
