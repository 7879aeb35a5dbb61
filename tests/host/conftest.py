"""What the tests of the agent share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.host.jobs import Place


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = await Place.made(tmp_path)
    yield made
    made.clear()
