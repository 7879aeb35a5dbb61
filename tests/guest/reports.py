"""Results of pytest in the guest, as lines of JSON over a port to the host.

In the guest this is a plugin of pytest. A test has one line when it begins, without an outcome, so
that the host can say which one a guest did not survive, and one when it has ended.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import pytest

PORT = "/dev/guest/report"
PREFIX = "tests/guest/inside/"
TEXT_LIMIT = 20_000  # characters


class Result(msgspec.Struct):
    """name: of a test, its path from `inside`. outcome: "" has begun, passed, failed, skipped.
    seconds: of its call. text: why it failed, and what it printed."""

    name: str
    outcome: str = ""
    seconds: float = 0.0
    text: str = ""


def read(path: Path) -> dict[str, Result]:
    """The last that was heard of each test."""
    lines = path.read_bytes().splitlines()
    return {one.name: one for one in (msgspec.json.decode(line, type=Result) for line in lines)}


class Reporter:
    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._results: dict[str, Result] = {}

    def _send(self, result: Result) -> None:
        os.write(self.fd, msgspec.json.encode(result) + b"\n")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        name = nodeid.removeprefix(PREFIX)
        self._results[nodeid] = Result(name)
        self._send(Result(name))

    def pytest_runtest_logreport(self, report: "pytest.TestReport") -> None:
        """Called for set-up, call and tear-down: the worst of the three counts."""
        result = self._results[report.nodeid]
        if report.when == "call":
            result.seconds = report.duration
        worse = {"": 0, "passed": 1, "skipped": 2, "failed": 3}
        if worse[report.outcome] > worse[result.outcome]:
            result.outcome = report.outcome
        if report.outcome != "passed":
            result.text = "\n".join([result.text, report.longreprtext, *_printed(report.sections)])

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        result = self._results.pop(nodeid)
        result.text = result.text.strip()[-TEXT_LIMIT:]
        self._send(result)


def _printed(sections: Iterable[tuple[str, str]]) -> list[str]:
    return [f"--- {title}\n{text}" for title, text in sections]


def pytest_configure(config: "pytest.Config") -> None:
    config.pluginmanager.register(Reporter(PORT))
