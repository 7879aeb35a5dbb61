from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.hosted import HostCli, hosted
from tests.cli.run import Cli


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")


@pytest.fixture(scope="session")
def shared_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostCli]:
    """An agent for all tests of a process of pytest; do not hurt it."""
    with hosted(tmp_path_factory.mktemp("agent")) as made:
        yield made


@pytest.fixture
def own_agent(tmp_path: Path) -> Iterator[HostCli]:
    """An agent that may be stopped and killed."""
    with hosted(tmp_path) as made:
        yield made
