"""What the tests of commands have in common."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.commands import arrays
from tests.engine.commands.arrays import Array
from tests.engine.commands.rig import ARRAY, Rig


@pytest.fixture
def rig(database_url: str) -> Rig:
    """Over a new database, of each kind."""
    return Rig(database_url)


@pytest.fixture
def array(rig: Rig, tmp_path: Path) -> Iterator[Array]:
    """A managed domain of files, in the rig."""
    yield from _array(rig, tmp_path, "file")


@pytest.fixture(params=["file", pytest.param("tgt", marks=pytest.mark.tools("tgtd", "tgtadm"))])
def any_array(request: pytest.FixtureRequest, rig: Rig, tmp_path: Path) -> Iterator[Array]:
    """One of each kind."""
    yield from _array(rig, tmp_path, request.param)


@pytest.fixture
def vendor(rig: Rig, tmp_path: Path) -> Iterator[Array]:
    """One whose adapter is a vendor's."""
    yield from _array(rig, tmp_path, "file", ours=False)


def _array(rig: Rig, folder: Path, kind: str, *, ours: bool = True) -> Iterator[Array]:
    with arrays.array(kind, folder, ours=ours) as made:
        rig.storages[ARRAY] = made.storage
        yield made
