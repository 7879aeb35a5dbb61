"""The store under test, and other processes that use it."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from leases.store import Store
from tests.conformance.stores import KINDS, Site, made, opened

ROOT = Path(__file__).parent.parent.parent
SLOTS = 40


@dataclass
class Other:
    """A child process."""

    popen: subprocess.Popen[str]

    def read(self) -> list[str]:
        """The words of its next line."""
        assert self.popen.stdout
        return self.popen.stdout.readline().split()

    def ready(self) -> list[str]:
        word, *rest = self.read() or ["nothing"]
        assert word == "ready", self.popen.communicate()
        return rest

    def end(self) -> int:
        """Let it finish; its status."""
        self.popen.communicate(timeout=60)
        return self.popen.returncode

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()


Start = Callable[..., Other]


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    hosts = None if request.param == "embedded" else request.getfixturevalue("hosts")
    yield made(request.param, tmp_path, leases=SLOTS, hosts=hosts)
    Path(tmp_path, "xleases").unlink()  # pytest would keep it


@pytest.fixture
def twin(site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """Another site just like it, to see what would have been without the fault."""
    folder = tmp_path / "twin"
    folder.mkdir()
    hosts = None if site.kind == "embedded" else request.getfixturevalue("hosts")
    yield made(site.kind, folder, leases=SLOTS, hosts=hosts)
    Path(folder, "xleases").unlink()


@pytest.fixture
def store(site: Site) -> Store:
    return opened(site)


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Start a command of tests/conformance/child.py; it is killed at the end of the test."""
    with ExitStack() as stack:
        numbers = itertools.count()

        def run(*command: str, die_at: str = "", at: Site = site) -> Other:
            popen = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.conformance.child", at.argument, *command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=ROOT,
                    env={**at.environment(next(numbers)), "LEASEHOLD_DIE_AT": die_at},
                )
            )
            stack.callback(popen.kill)
            return Other(popen)

        yield run
