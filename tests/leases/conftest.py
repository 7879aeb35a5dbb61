"""A domain's lease volume and the embedded store over it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from leases.embedded import EmbeddedStore
from leases.geometry import Geometry
from leases.volume import format_volume

SD_ID = "11111111-2222-4333-8444-555555555555"
SLOTS = 4


@pytest.fixture(params=[512, 4096])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedStore]:
    """With both sizes of sectors: nothing above the codecs may depend on them."""
    Path(tmp_path, "ids").touch()
    store = EmbeddedStore(
        SD_ID, str(tmp_path / "xleases"), str(tmp_path / "ids"), Geometry.of(request.param)
    )
    format_volume(store.volume, now=1700000000, leases=SLOTS)
    yield store
    for path in tmp_path.glob("xleases*"):  # pytest would keep them all
        path.unlink()
