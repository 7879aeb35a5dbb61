"""Every road to every kind of target gives the same bytes, over whatever was there before."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from endpoints.domain import create_domain, open_store
from jobs.job import Job
from tests.faults.copies import Copies
from tests.servers import MIB, pattern, qcow2_image, raw_image, tool
from tests.volumes import Storage, storage, tools

__all__ = ["storage"]  # the fixture

OLD = b"\xee"
SECTOR = 512
MORE = MIB  # bytes of a target behind the end of the source
HOLE = 64 << 10  # bytes at its end: a file whose space is all taken shares no extents


@dataclass(frozen=True)
class Kind:
    """A kind of target. road: words of the path taken. tells: whether its storage says that it is
    blank; then the path taken has the words `blank`.
    """

    name: str
    road: str
    blank: str = "--destination-is-zero"
    tells: bool = True

    @property
    def needs(self) -> pytest.MarkDecorator:
        return pytest.mark.tools(*tools(self.name))


KINDS = [
    Kind("file", "-t none -T none -W", "--target-is-zero"),
    Kind("device", "-t none -T none -W", "--target-is-zero", tells=False),
    Kind("xfs", "sharing extents", "--target-is-zero"),
    Kind("btrfs", "sharing extents", "--target-is-zero"),
    Kind("nbd", "--connections=4"),
    Kind("nbd, one connection", "--connections=1"),
    Kind("nbd, no extents", "nbdcopy", tells=False),
    Kind("iscsi", "through qemu-nbd"),
    Kind("iscsi, not thin", "through qemu-nbd", tells=False),
    Kind("rbd", "through qemu-nbd"),
]
KIND = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=kind.needs, id=kind.name) for kind in KINDS]
)


@pytest.fixture
async def copies(tmp_path: Path) -> Copies:
    domain = await create_domain(str(tmp_path / "mount"), leases=8)
    return Copies(domain, await open_store(domain))


# --- sources ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """make: writes the image to a path, of `size` bytes."""

    name: str
    size: int
    make: Callable[[Path, int], Path]

    @property
    def sectors(self) -> int:
        """Bytes of the sectors that it has, the last one whole."""
        return self.size + -self.size % SECTOR

    def made(self, folder: Path) -> Path:
        return self.make(folder / "source.img", self.size)

    def content(self, image: Path) -> bytes:
        """What a target has to begin with."""
        if self.make is chain:
            flat = image.with_suffix(".flat")
            tool(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(image), str(flat)])
            return flat.read_bytes()
        return image.read_bytes() + bytes(self.sectors - self.size)


def islands(*places: int) -> Callable[[Path, int], Path]:
    """Data of no whole blocks at some places, and a hole everywhere else."""

    def make(path: Path, size: int) -> Path:
        image = raw_image(path, size)
        with image.open("r+b") as file:
            for number, place in enumerate(places):
                file.seek(place)
                file.write(pattern(MIB // 3, seed=number)[: size - place])
        return image

    return make


def data_only(path: Path, size: int) -> Path:
    return raw_image(path, size, data=pattern(size))


def written_zeros(path: Path, size: int) -> Path:
    """Zeros that take space, between data."""
    return raw_image(path, size, data=pattern(MIB) + bytes(2 * MIB) + pattern(size - 3 * MIB))


def chain(path: Path, size: int) -> Path:
    """Three images: data of each, zeros over data of the one below, and data over zeros."""
    base = qcow2_image(path.with_suffix(".base"), size, data=pattern(3 * MIB))
    middle = qcow2_image(path.with_suffix(".middle"), size, backing=base)
    for zeros in (f"{MIB} {MIB}", f"{4 * MIB} 65536"):
        tool(["qemu-io", "-f", "qcow2", "-c", f"write -q -z {zeros}", str(middle)])
    data = pattern(MIB // 2, seed=3)
    return qcow2_image(path, size, data=data, offset=MIB + MIB // 4, backing=middle)


SOURCES = [
    Source("islands", 12 * MIB, islands(0, 5 * MIB + SECTOR, 9 * MIB)),
    Source("hole, then data", 8 * MIB, islands(6 * MIB)),
    Source("data only", 3 * MIB, data_only),
    Source("nothing", 5 * MIB, islands()),
    Source("written zeros", 4 * MIB, written_zeros),
    Source("odd tail of data", 3 * MIB + 300, islands(0, 3 * MIB - 200)),
    Source("odd tail of a hole", 3 * MIB + 300, islands(MIB)),
    Source("one sector more", 3 * MIB + SECTOR, islands(0, 3 * MIB)),
    Source("a few bytes", 300, data_only),
    Source("chain", 6 * MIB, chain),
]
SOME = [source for source in SOURCES if source.name in {"islands", "odd tail of a hole", "chain"}]


def each(sources: list[Source]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("source", sources, ids=[one.name for one in sources])


# --- the table --------------------------------------------------------------------------------


def path_taken(job: Job) -> str:
    assert job.result is not None
    return str(job.result["path_taken"])


@pytest.mark.sample(30)
@KIND
@each(SOURCES)
async def test_a_dirty_target_gets_every_byte_and_no_other(
    copies: Copies, storage: Storage, kind: Kind, source: Source
) -> None:
    old = source.sectors + MORE - HOLE
    with storage.volume(kind.name, old + HOLE, old=OLD * old) as target:
        image = source.made(target.folder)
        job = await copies.copied(image, target.url)
        await copies.assert_done(job)
        behind = OLD * (MORE - HOLE) + bytes(HOLE)
        assert target.content == source.content(image) + behind
    assert kind.blank not in path_taken(job)
    if source.make is not chain:
        assert kind.road in path_taken(job)


@KIND
@each(SOME)
async def test_a_blank_target_gets_no_zeros_where_its_storage_says_so(
    copies: Copies, storage: Storage, kind: Kind, source: Source
) -> None:
    with storage.volume(kind.name, source.sectors + MORE) as target:
        image = source.made(target.folder)
        job = await copies.copied(image, target.url)
        await copies.assert_done(job)
        assert target.content == source.content(image) + bytes(MORE)
    assert (kind.blank in path_taken(job)) is kind.tells


@KIND
async def test_a_blank_target_gets_no_zeros_where_the_caller_says_so(
    copies: Copies, storage: Storage, kind: Kind
) -> None:
    source = SOURCES[0]
    with storage.volume(kind.name, source.size) as target:
        image = source.made(target.folder)
        job = await copies.copied(image, target.url, is_zero=True)
        await copies.assert_done(job)
        assert target.content == source.content(image)
    assert kind.blank in path_taken(job)


DIRTY = [
    pytest.param(kind, place, marks=kind.needs, id=f"{kind.name}, {place}")
    for kind in KINDS
    for place in ("all of it", "its middle")
    # Where the storage does not tell, what it begins with does; more nobody can know.
    if kind.tells or place == "all of it"
]


@pytest.mark.parametrize(("kind", "place"), DIRTY)
async def test_a_dirty_target_gets_its_zeros_whatever_the_caller_says(
    copies: Copies, storage: Storage, kind: Kind, place: str
) -> None:
    source = SOURCES[0]
    offset, length = (0, source.size) if place == "all of it" else (7 * MIB, MIB)
    with storage.volume(kind.name, source.size, old=OLD * length, offset=offset) as target:
        image = source.made(target.folder)
        job = await copies.copied(image, target.url, is_zero=True)
        await copies.assert_done(job)
        assert target.content == source.content(image)
    assert kind.blank not in path_taken(job)


@KIND
async def test_a_copy_held_back_takes_the_plain_road_with_the_same_bytes(
    copies: Copies, storage: Storage, kind: Kind
) -> None:
    source = SOURCES[0]
    with storage.volume(kind.name, source.size, old=OLD * source.size) as target:
        image = source.made(target.folder)
        job = await copies.copied(image, target.url, limit=64 * MIB)
        await copies.assert_done(job)
        assert target.content == source.content(image)
    assert "sharing extents" not in path_taken(job)
