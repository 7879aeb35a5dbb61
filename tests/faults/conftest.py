"""What the fault tests share: tracked copies in this process, and the real command."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from endpoints.domain import create_domain, open_store
from tests.cli.run import Cli
from tests.faults.copies import Copies
from tests.servers import users

if TYPE_CHECKING:
    from tests.faults.engine_estates import Estates

LEASES = 8


@pytest.fixture
async def copies(tmp_path: Path) -> Copies:
    """Tracked copies with their leases in a new domain."""
    domain = await create_domain(str(tmp_path / "mount"), leases=LEASES)
    return Copies(domain, await open_store(domain))


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The real command, with a home of its own."""
    return Cli(tmp_path / "home")


@pytest.fixture
def left_over(tmp_path: Path) -> Callable[..., list[int]]:
    """Gives the processes, but the pids that are named, that hold or name a file of this test."""

    def look(*known: int) -> list[int]:
        return [pid for pid in users(tmp_path) if pid not in known]

    return look


@pytest.fixture(scope="session")
def estates(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Estates"]:
    """Engines with their hosts, on either database."""
    from tests.faults.engine_estates import Estates  # noqa: PLC0415 - it imports the whole engine

    with Estates(tmp_path_factory) as made:
        yield made
