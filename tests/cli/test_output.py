"""What is printed, and to whom."""

import json
import subprocess
import sys

import pytest

from cli.output import Output, explained, printable
from protocol.errors import BadParameter, ImageRefused, NoSuchLease
from tests.cli.run import COMMAND, ROOT, Cli


def test_control_characters_of_hostile_names_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31m\r\nb\x9b\u202ec é") == r"a\x1b[31m\r\nb\x9b\u202ec é"
    assert printable("a\nb\x1b", lines=True) == "a\nb\\x1b"


def test_an_error_is_one_line_on_stderr_that_names_the_way_out(
    capfd: pytest.CaptureFixture[str],
) -> None:
    Output().error(ImageRefused("disk\n2", "its backing file is \x1b]0;x\x07"))
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "\x1b" not in told.err
    assert "lease list" in explained(NoSuchLease("x"))


def test_with_json_an_error_is_one_object_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    Output(json=True).error(BadParameter("a", "b"), {"job_id": "j"})
    told = capfd.readouterr()
    assert told.err == ""
    assert json.loads(told.out) == {
        "error": {
            "code": 1000,
            "kind": "BadParameter",
            "message": "bad parameter a: b",
            "data": {"name": "a", "reason": "b", "job_id": "j"},
        }
    }


def test_quiet_says_no_notes_but_results_and_warnings(capfd: pytest.CaptureFixture[str]) -> None:
    out = Output(quiet=True)
    out.note("note")
    out.done({}, "done")
    out.warn("warning")
    out.result({}, "result")
    assert capfd.readouterr() == ("result\n", "leasehold: warning\n")


def test_no_file_of_ours_gets_the_number_of_a_standard_stream() -> None:
    """A command that is started without them opens the lease volume next."""
    code = "import os; from cli.output import *; keep_standard_streams(); os.fstat(0)"
    code += "; fd = os.open('/dev/zero', 0); Output().warn('x'); os._exit(fd)"
    shell = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code]
    assert subprocess.run(shell, cwd=ROOT, check=False).returncode == 3


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_command_works_without_a_standard_stream(cli: Cli, closed: str) -> None:
    line = f'exec "$@" {closed}'
    shell = ["sh", "-c", line, "sh", *COMMAND, "domain", "list"]
    done = subprocess.run(shell, env=cli.environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
