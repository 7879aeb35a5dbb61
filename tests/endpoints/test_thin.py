"""A thin volume takes what the source has of data, whatever its size."""

from pathlib import Path

import pytest

from endpoints.domain import create_domain, open_store
from tests.faults.copies import Copies
from tests.servers import MIB, pattern, raw_image
from tests.volumes import Storage, Volume, storage, tools

__all__ = ["storage"]  # the fixture

GIB = 1 << 30
SIZE = 100 * GIB
OBJECT = 4 * MIB  # what rbd gives out
SLACK = 2 * MIB  # what a file system needs to find the pieces
PLACES = 8

KINDS = ["file", "xfs", "nbd", "nbd, one connection", "iscsi", "rbd"]
KIND = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.tools(*tools(kind))) for kind in KINDS]
)


@pytest.fixture
async def copies(tmp_path: Path) -> Copies:
    domain = await create_domain(str(tmp_path / "mount"), leases=4)
    return Copies(domain, await open_store(domain))


def spread(folder: Path, data: int) -> Path:
    """A disk with data at its beginning, at its end and between; `data` bytes of it."""
    piece = data // PLACES
    image = raw_image(folder / "source.raw", SIZE)
    with image.open("r+b") as file:
        for number in range(PLACES):
            file.seek((SIZE - piece) // (PLACES - 1) // OBJECT * OBJECT * number)
            file.write(pattern(MIB, seed=number) * (piece // MIB))
    return image


async def assert_thin(copies: Copies, target: Volume, data: int) -> None:
    """Copy such a disk to the target, which takes no more than its data."""
    image = spread(target.folder, data)
    before = target.allocated
    job = await copies.copied(image, target.url, sparse=True, verify=data < GIB)
    await copies.assert_done(job)
    assert data <= target.allocated <= max(before, data + SLACK)


@KIND
async def test_a_thin_volume_stays_thin(copies: Copies, storage: Storage, kind: str) -> None:
    with storage.volume(kind, SIZE) as target:
        await assert_thin(copies, target, PLACES * OBJECT)


@pytest.mark.full
@KIND
async def test_a_thin_volume_of_100_gib_takes_1_gib(
    copies: Copies, storage: Storage, kind: str
) -> None:
    with storage.volume(kind, SIZE) as target:
        await assert_thin(copies, target, GIB)


@KIND
async def test_a_volume_that_held_data_gets_its_holes_back(
    copies: Copies, storage: Storage, kind: str
) -> None:
    old = pattern(16 * MIB, seed=99)
    with storage.volume(kind, SIZE, old=old, offset=2 * GIB) as target:
        data = PLACES * OBJECT
        assert target.allocated >= len(old)
        await assert_thin(copies, target, data)
        assert target.allocated <= data + SLACK
