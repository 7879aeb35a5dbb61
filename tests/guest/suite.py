"""The tests of `inside`: which there are, and a boot that runs them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.guest import reports
from tests.guest.conftest import IN_GUEST
from tests.guest.machine import PYTHON, Disk, Ended, GuestGone, booted
from tests.guest.payload import ROOT
from tests.guest.reports import PREFIX, Result

LIST = Path(__file__).with_name("scenarios.txt")
GIB = 1 << 30
TIME = 2400.0  # seconds for all tests that are not long, of which it needs some 600
FULL_TIME = 7200.0
ENVIRONMENT = {IN_GUEST: "1", "CI": "true"}  # nothing may be missing there
_FULL = "full "  # before the name of a long one


@dataclass(frozen=True)
class Scenario:
    """name: of a test in `inside`, as pytest gives it, from there."""

    name: str
    full: bool


@dataclass(frozen=True)
class Outcome:
    """results: by name. ended: None when the guest did not survive. console: of the guest."""

    results: dict[str, Result]
    ended: Ended | None
    console: str

    def failure(self, name: str) -> str | None:
        """Why a test has not passed; one that was skipped has not: nothing is missing there."""
        result = self.results.get(name)
        if result is not None and result.outcome:
            passed = result.outcome == "passed"
            about = f"{result.outcome} after {result.seconds:.1f} s\n{result.text}"
            return None if passed else about
        what = "it did not run" if result is None else "it did not end"
        said = self.ended.text if self.ended else "the guest has ended"
        return f"{what}\n{said}\n{self.console}"


def listed() -> list[Scenario]:
    lines = LIST.read_text().splitlines()
    return [Scenario(line.removeprefix(_FULL), line.startswith(_FULL)) for line in lines]


def write_list(scenarios: Sequence[Scenario]) -> None:
    lines = [f"{_FULL if one.full else ''}{one.name}\n" for one in scenarios]
    LIST.write_text("".join(lines))


def collected() -> list[Scenario]:
    """Those that are there, as pytest finds them: here, without a guest."""
    quick = _collected()
    return [Scenario(name, name not in quick) for name in _collected("--full")]


def _collected(*options: str) -> list[str]:
    done = subprocess.run(
        [*_pytest(), "--collect-only", "-q", *options, PREFIX],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    lines = done.stdout.splitlines()
    return [line.removeprefix(PREFIX) for line in lines if line.startswith(PREFIX)]


def run(folder: Path, *arguments: str, seconds: float = TIME) -> Outcome:
    """Boot a guest and run pytest in it. folder: for its disks. arguments: pytest's."""
    data, spare = Disk.new(folder, "data", 16 * GIB), Disk.new(folder, "spare", 4 * GIB)
    with booted(data, spare) as guest:
        argv = [PYTHON, *_pytest()[1:], "-p", "tests.guest.reports", "-q", *arguments]
        try:
            ended = guest.run(*argv, cwd=ROOT, env=ENVIRONMENT, seconds=seconds)
        except GuestGone:
            ended = None
        except AssertionError as e:  # it hangs: what has ended by then counts
            ended = Ended(-1, str(e))
        return Outcome(reports.read(guest.report), ended, guest.console())


def _pytest() -> list[str]:
    plugins = [word for name in ("xdist", "cacheprovider") for word in ("-p", f"no:{name}")]
    return [sys.executable, "-m", "pytest", *plugins]
