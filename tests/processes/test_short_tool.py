"""A tool that ends soon, run without trio: its output, its errors, and its end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from processes import short_tool
from protocol.errors import BadOutput, NoSpaceLeft, ToolFailed, ToolKilled, ToolMissing, ToolStalled
from tests.servers import ended, until

NOW = 60.0  # seconds, which no tool here takes


def shell(script: str, seconds: float = NOW) -> bytes:
    return short_tool.run(["sh", "-c", script], seconds=seconds)


def test_what_it_prints_is_returned() -> None:
    assert shell("echo one; echo two >&2; echo three") == b"one\nthree\n"


def test_it_reads_nothing_and_its_messages_are_english() -> None:
    assert shell('cat; echo "$LC_ALL"') == b"C.UTF-8\n"


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        ("echo no luck >&2; exit 3", ToolFailed, "no luck"),
        ("echo No space left on device >&2; exit 1", NoSpaceLeft, "No space"),
        ("kill -9 $$", ToolKilled, "9"),
    ],
    ids=["failed", "full", "killed"],
)
def test_its_end_is_an_error_by_class(script: str, kind: type[ToolFailed], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        shell(script)
    assert type(caught.value) is kind


def test_one_that_is_missing_is_named() -> None:
    with pytest.raises(ToolMissing):
        short_tool.run(["no-such-tool"], seconds=NOW)


@pytest.mark.parametrize("closed", ["", "exec >&-;"], ids=["open", "closed"])
def test_one_that_takes_too_long_is_ended_with_all_that_it_started(
    closed: str, tmp_path: Path
) -> None:
    """Also one that has closed its standard output."""
    script = f"echo $$ > {tmp_path}/pid; {closed} sleep 1000000 & echo $! > {tmp_path}/child; wait"
    with pytest.raises(ToolStalled):
        shell(script, seconds=0.5)
    assert ended(int((tmp_path / "pid").read_text()), 0)
    assert ended(int((tmp_path / "child").read_text()))


def test_one_that_prints_without_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(BadOutput):
        shell(f"echo $$ > {tmp_path}/pid; exec yes")
    assert ended(int((tmp_path / "pid").read_text()), 0)


def test_errors_without_end_neither_hold_it_up_nor_are_kept() -> None:
    with pytest.raises(ToolFailed) as caught:
        shell("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1")
    assert 0 < len(caught.value.detail) <= short_tool.TAIL_LIMIT


def test_a_daemon_that_keeps_the_errors_open_is_not_waited_for(tmp_path: Path) -> None:
    daemon = f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 1000000' > /dev/null"
    shell(f"{daemon} & while [ ! -s {tmp_path}/pid ]; do sleep 0.01; done")
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, signal.SIGKILL)  # it was there


def test_what_a_signal_handler_raises_ends_the_tool_first(tmp_path: Path) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    former = signal.signal(signal.SIGUSR1, interrupt)
    try:
        us = os.getpid()
        wait = f"until grep -q '^State:.S' /proc/{us}/status; do sleep 0.01; done"  # for the tool
        with pytest.raises(Interrupted):
            shell(f"echo $$ > {tmp_path}/pid; {wait}; kill -USR1 {us}; sleep 1000000")
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert ended(int((tmp_path / "pid").read_text()), 0)


PARENT = """
import sys
from processes import short_tool
short_tool.run(["sh", "-c", sys.argv[1]], seconds=1000)
"""


async def test_it_dies_with_us(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 1000000"
    with subprocess.Popen([sys.executable, "-c", PARENT, script]) as parent:
        await until((tmp_path / "pid").exists)
        pid = int((tmp_path / "pid").read_text())
        parent.kill()
        assert ended(pid)
