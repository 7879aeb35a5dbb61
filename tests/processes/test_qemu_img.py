"""qemu-img: facts, copies and errors by class, with real images and real faults."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from endpoints.url import NbdUnixUrl
from processes import qemu_img
from processes.image_node import Node
from processes.qemu_img import Flags, percent
from protocol.errors import (
    BadOutput,
    ConnectionLost,
    ImageInUse,
    InputOutputError,
    NoSpaceLeft,
    ToolFailed,
    ToolMissing,
)
from tests.servers import (
    MIB,
    Server,
    flaky,
    nbdkit,
    pattern,
    qcow2_image,
    qemu_nbd,
    raw_image,
    until,
    users,
)

pytestmark = pytest.mark.tools("qemu-img", "qemu-io", "qemu-nbd", "nbdkit")
SIZE = 8 * MIB


def raw(path: Path) -> dict[str, Any]:
    return {"driver": "raw", "file": {"driver": "file", "filename": str(path)}}


def qcow2(path: Path, backing: Node | None = None) -> dict[str, Any]:
    return {**raw(path), "driver": "qcow2", "backing": backing}


def served(server: Server) -> dict[str, Any]:
    return {"driver": "raw", "file": NbdUnixUrl(str(server.socket), server.export).node()}


class Seen:
    """What a copy told of its progress."""

    def __init__(self) -> None:
        self.percents: list[float] = []
        self.counters: list[int] = []

    def __call__(self, percent: float | None, moved: int) -> None:
        if percent is not None:
            self.percents.append(percent)
        self.counters.append(moved)


def ignore(percent: float | None, moved: int) -> None:
    pass


# --- facts ------------------------------------------------------------------------------------


async def test_info_of_a_raw_image(tmp_path: Path) -> None:
    info = await qemu_img.info(raw(raw_image(tmp_path / "a", SIZE, data=b"x")))
    assert (info.format, info.virtual_size) == ("raw", SIZE)
    assert info.backing_filename is None
    assert info.actual_size is not None
    assert info.actual_size < SIZE


async def test_info_of_a_qcow2_image_does_not_open_its_backing_file(tmp_path: Path) -> None:
    base = qcow2_image(tmp_path / "base", SIZE)
    top = qcow2_image(tmp_path / "top", SIZE, backing=base)
    base.unlink()
    info = await qemu_img.info(qcow2(top))
    assert (info.format, info.virtual_size) == ("qcow2", SIZE)
    assert info.backing_filename == str(base)


@pytest.mark.parametrize("name", ["a b", "a,b=c", "-x", "a:b", "json:x", "ä\n'\"", "%s{}"])
async def test_any_file_name_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    image = raw_image(tmp_path / name, SIZE, data=b"x")
    assert (await qemu_img.info(raw(image))).virtual_size == SIZE
    await qemu_img.create(str(image), "qcow2", 2 * SIZE)
    assert (await qemu_img.info(qcow2(image))).virtual_size == 2 * SIZE


async def test_info_of_what_is_not_there_or_not_qcow2_fails(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="No such file"):
        await qemu_img.info(raw(tmp_path / "missing"))
    with pytest.raises(ToolFailed, match="not in qcow2 format"):
        await qemu_img.info(qcow2(raw_image(tmp_path / "a", SIZE)))


async def test_a_missing_qemu_img_is_told_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="qemu-utils"):
        await qemu_img.info(raw(tmp_path / "a"))


@pytest.mark.parametrize("output", ["", "null", "[]", '{"format": 1}', "not json", "[" * 10000])
async def test_unexpected_output_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    fake = tmp_path / "qemu-img"
    fake.write_text(f"#!/bin/sh\ncat <<'EOF'\n{output}\nEOF\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BadOutput):
        await qemu_img.info(raw(tmp_path / "a"))


async def test_map_sums_up_the_data(tmp_path: Path) -> None:
    image = raw_image(tmp_path / "a", SIZE, data=pattern(MIB), offset=2 * MIB)
    allocation = await qemu_img.map_(raw(image), SIZE)
    assert allocation.total == MIB
    assert [allocation.upto(n * MIB) for n in (0, 2, 3, 8)] == [0, 0, MIB, MIB]


async def test_map_of_a_chain_counts_what_is_seen_through_it(tmp_path: Path) -> None:
    base = qcow2_image(tmp_path / "base", SIZE, data=pattern(4 * MIB))
    top = qcow2_image(tmp_path / "top", SIZE, data=pattern(MIB), offset=6 * MIB, backing=base)
    zero = ["qemu-io", "-f", "qcow2", "-c", "write -q -z 1M 2M", str(top)]
    subprocess.run(zero, check=True)  # zeros in the top hide data of the base
    allocation = await qemu_img.map_(qcow2(top, qcow2(base)), SIZE)
    assert allocation.total == 3 * MIB
    assert [allocation.upto(n * MIB) for n in (1, 3, 4, 6, 7)] == [n * MIB for n in (1, 1, 2, 2, 3)]


async def test_map_of_an_empty_image_is_empty(tmp_path: Path) -> None:
    assert (await qemu_img.map_(qcow2(qcow2_image(tmp_path / "a", SIZE)), SIZE)).total == 0


async def test_measure_tells_what_a_new_image_needs(tmp_path: Path) -> None:
    image = raw_image(tmp_path / "a", SIZE, data=pattern(MIB))
    need = await qemu_img.measure(raw(image), "qcow2")
    assert MIB < need.required < 2 * MIB
    assert need.fully_allocated > SIZE


@pytest.mark.parametrize("format", ["raw", "qcow2"])
async def test_a_created_image_has_format_and_size_and_reads_as_zeros(
    tmp_path: Path, format: str
) -> None:
    path = tmp_path / "new"
    await qemu_img.create(str(path), format, SIZE)
    node = raw(path) if format == "raw" else qcow2(path)
    info = await qemu_img.info(node)
    assert (info.format, info.virtual_size) == (format, SIZE)
    assert await qemu_img.compare(node, raw(raw_image(tmp_path / "zeros", SIZE)))


async def test_create_takes_options(tmp_path: Path) -> None:
    path = tmp_path / "new"
    await qemu_img.create(str(path), "qcow2", SIZE, ["compat=0.10", "cluster_size=4k"])
    assert path.read_bytes()[4:8] == b"\0\0\0\2"


async def test_compare_knows_equal_from_different(tmp_path: Path) -> None:
    one = raw_image(tmp_path / "one", SIZE, data=pattern(MIB))
    same = qcow2_image(tmp_path / "same", SIZE, data=pattern(MIB))
    other = raw_image(tmp_path / "other", SIZE, data=pattern(MIB, seed=2))
    assert await qemu_img.compare(raw(one), qcow2(same))
    assert not await qemu_img.compare(raw(one), raw(other))


async def test_compare_wants_the_rest_of_the_longer_image_to_be_zeros(tmp_path: Path) -> None:
    short = raw_image(tmp_path / "short", MIB, data=pattern(MIB))
    long = raw_image(tmp_path / "long", SIZE, data=pattern(MIB))
    assert await qemu_img.compare(raw(short), raw(long))
    assert not await qemu_img.compare(
        raw(short), raw(raw_image(tmp_path / "longer", SIZE, data=pattern(MIB) + b"x"))
    )


async def test_compare_with_a_missing_image_is_an_error_and_not_a_difference(
    tmp_path: Path,
) -> None:
    one = raw_image(tmp_path / "one", SIZE)
    with pytest.raises(ToolFailed, match="No such file"):
        await qemu_img.compare(raw(one), raw(tmp_path / "missing"))


async def test_compare_with_an_unreadable_image_is_an_error(tmp_path: Path) -> None:
    one = raw_image(tmp_path / "one", SIZE, data=pattern(MIB))
    with flaky(tmp_path, one, on="read") as server:
        server.fail()
        with pytest.raises(InputOutputError):
            await qemu_img.compare(raw(one), served(server))


@pytest.mark.parametrize("count", [512, 4096, 65536, MIB])
async def test_head_is_the_first_bytes(tmp_path: Path, count: int) -> None:
    image = raw_image(tmp_path / "a", SIZE, data=pattern(2 * MIB))
    assert await qemu_img.head(raw(image)["file"], count) == pattern(2 * MIB)[:count]


async def test_head_reads_a_qcow2_image_as_raw_bytes(tmp_path: Path) -> None:
    image = qcow2_image(tmp_path / "a", SIZE)
    assert (await qemu_img.head(raw(image)["file"], 512))[:4] == b"QFI\xfb"


@pytest.mark.parametrize("size", [0, 512, 4096])
async def test_head_of_a_short_image_is_all_of_it(tmp_path: Path, size: int) -> None:
    image = raw_image(tmp_path / "a", size, data=pattern(size))
    assert await qemu_img.head(raw(image)["file"], 65536) == pattern(size)


async def test_head_of_an_nbd_export(tmp_path: Path) -> None:
    image = raw_image(tmp_path / "a", SIZE, data=pattern(MIB))
    with qemu_nbd(image, tmp_path) as server:
        assert await qemu_img.head(served(server)["file"], 4096) == pattern(MIB)[:4096]


# --- the copy ---------------------------------------------------------------------------------


def images(folder: Path) -> tuple[Path, Path]:
    source = raw_image(folder / "source", SIZE, data=pattern(3 * MIB), offset=MIB)
    return source, raw_image(folder / "target", SIZE, data=pattern(SIZE, seed=2))


async def test_convert_writes_every_byte_over_what_was_there(tmp_path: Path) -> None:
    source, target = images(tmp_path)
    await qemu_img.convert(raw(source), raw(target), Flags(), ignore, inherit=())
    assert target.read_bytes() == source.read_bytes()


async def test_convert_reads_through_the_chain_that_it_was_given(tmp_path: Path) -> None:
    base = qcow2_image(tmp_path / "base", SIZE, data=pattern(2 * MIB))
    top = qcow2_image(tmp_path / "top", SIZE, data=pattern(MIB, 3), offset=MIB, backing=base)
    target = raw_image(tmp_path / "target", SIZE)
    await qemu_img.convert(qcow2(top, qcow2(base)), raw(target), Flags(), ignore, inherit=())
    assert target.read_bytes() == (pattern(2 * MIB)[:MIB] + pattern(MIB, 3)).ljust(SIZE, b"\0")


async def test_convert_into_qcow2(tmp_path: Path) -> None:
    source, _ = images(tmp_path)
    target = qcow2_image(tmp_path / "target.qcow2", SIZE)
    await qemu_img.convert(raw(source), qcow2(target), Flags(), ignore, inherit=())
    assert await qemu_img.compare(raw(source), qcow2(target))


async def test_convert_with_unordered_writes(tmp_path: Path) -> None:
    source, target = images(tmp_path)
    await qemu_img.convert(raw(source), raw(target), Flags(unordered=True), ignore, inherit=())
    assert target.read_bytes() == source.read_bytes()


async def test_a_zero_target_gets_no_zeros_written(tmp_path: Path) -> None:
    """And one that only seems to be zero would keep its bytes: the caller has to know."""
    source, dirty = images(tmp_path)
    zero = raw_image(tmp_path / "zero", SIZE)
    flags = Flags(target_is_zero=True)
    await qemu_img.convert(raw(source), raw(zero), flags, ignore, inherit=())
    assert zero.read_bytes() == source.read_bytes()
    assert zero.stat().st_blocks * 512 <= 3 * MIB
    await qemu_img.convert(raw(source), raw(dirty), flags, ignore, inherit=())
    assert dirty.read_bytes() != source.read_bytes()


async def test_convert_tells_how_far_it_is(tmp_path: Path) -> None:
    source, target = images(tmp_path)
    seen = Seen()
    await qemu_img.convert(raw(source), raw(target), Flags(), seen, inherit=())
    assert seen.percents == sorted(seen.percents)
    assert seen.percents[0] == 0
    assert seen.percents[-1] == 100
    assert len(set(seen.percents)) > 2


async def test_convert_is_slower_with_a_limit(tmp_path: Path) -> None:
    """A lower bound only: 16 MiB at 16 MiB/s are a second, and a few milliseconds without."""
    source = raw_image(tmp_path / "source", 2 * SIZE, data=pattern(2 * SIZE))
    target = raw_image(tmp_path / "target", 2 * SIZE)
    assert await timed(source, target, Flags(limit=16 * MIB)) > 0.5


async def timed(source: Path, target: Path, flags: Flags) -> float:
    began = os.times().elapsed
    await qemu_img.convert(raw(source), raw(target), flags, ignore, inherit=())
    return os.times().elapsed - began


@pytest.mark.parametrize(
    ("flags", "argv"),
    [
        (Flags(), ["-t", "none", "-T", "none"]),
        (Flags(cache="writethrough", source_cache="writeback"), ["-t", "writethrough"]),
        (Flags(target_is_zero=True), ["--target-is-zero"]),
        (Flags(unordered=True), ["-W", "-m", "8"]),
        (Flags(limit=1000), []),
        (Flags(limit=1000, bitmaps=True), ["-r", "1000", "--bitmaps", "--skip-broken-bitmaps"]),
    ],
)
def test_flags_say_what_was_decided(flags: Flags, argv: list[str]) -> None:
    assert " ".join(argv) in " ".join(flags.argv())


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        ("    (0.00/100%)", 0.0),
        ("    (12.34/100%)", 12.34),
        ("    (100.00/100%)", 100.0),
        ("(7/100%)", 7.0),
        ("(1.00/100%)    (2.00/100%)", 2.0),
        ("warning (3.00/100%) something", 3.0),
        ("", None),
        ("no figure", None),
        ("(/100%)", None),
        ("(-1.00/100%)", None),
        ("(12.34/1000%)", None),
        ("(1234.00/100%)", None),
        ("(12.34/100%", None),
        ("12.34/100%", None),
        ("(nan/100%)", None),
    ],
)
def test_a_percent_is_found_in_a_piece(piece: str, expected: float | None) -> None:
    assert percent(piece) == expected


# --- faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"), [("EIO", InputOutputError), ("ENOSPC", NoSpaceLeft), ("EPERM", ToolFailed)]
)
async def test_a_write_error_in_the_middle_fails_by_class(
    tmp_path: Path, error: str, kind: type[ToolFailed]
) -> None:
    source, target = images(tmp_path)
    with flaky(tmp_path, target, error=error) as server:
        await qemu_img.convert(raw(source), served(server), Flags(), ignore, inherit=())

        def fail(percent: float | None, moved: int) -> None:
            if percent:
                server.fail()

        slow = Flags(limit=8 * MIB)
        with pytest.raises(kind) as caught:
            await qemu_img.convert(raw(source), served(server), slow, fail, inherit=())
    assert type(caught.value) is kind


async def test_a_read_error_fails_the_copy(tmp_path: Path) -> None:
    source, target = images(tmp_path)
    with flaky(tmp_path, source, on="read") as server:
        server.fail()
        with pytest.raises(InputOutputError):
            await qemu_img.convert(served(server), raw(target), Flags(), ignore, inherit=())


async def test_a_server_that_is_killed_fails_the_copy(tmp_path: Path) -> None:
    """With EIO: QEMU tells of a lost NBD server in no other way."""
    source, target = images(tmp_path)
    with nbdkit(tmp_path, ["file", str(target)]) as server:

        def kill(percent: float | None, moved: int) -> None:
            if percent:
                server.kill()

        slow = Flags(limit=8 * MIB)
        with pytest.raises((InputOutputError, ConnectionLost)):
            await qemu_img.convert(raw(source), served(server), slow, kill, inherit=())


async def test_a_server_that_does_not_listen_is_told(tmp_path: Path) -> None:
    node: Node = {"driver": "raw", "file": NbdUnixUrl(str(tmp_path / "none"), "").node()}
    with pytest.raises(ToolFailed, match="No such file or directory"):
        await qemu_img.info(node)


async def test_an_image_that_another_process_writes_is_in_use(tmp_path: Path) -> None:
    source, target = images(tmp_path)
    with qemu_nbd(target, tmp_path), pytest.raises(ImageInUse):
        await qemu_img.convert(raw(source), raw(target), Flags(), ignore, inherit=())
    with qemu_nbd(source, tmp_path), pytest.raises(ImageInUse):
        await qemu_img.convert(raw(source), raw(target), Flags(), ignore, inherit=())


async def test_facts_can_be_had_of_an_image_in_use(tmp_path: Path) -> None:
    image, _ = images(tmp_path)
    with qemu_nbd(image, tmp_path):
        assert (await qemu_img.info(raw(image))).virtual_size == SIZE
        assert (await qemu_img.map_(raw(image), SIZE)).total == 3 * MIB
        assert await qemu_img.head(raw(image)["file"], 512) == bytes(512)


async def test_convert_keeps_the_descriptors_it_inherits(tmp_path: Path) -> None:
    """So the lease is held for as long as the writer lives."""
    source, target = images(tmp_path)
    lease = tmp_path / "lease"
    with inheritable(lease) as fd:
        async with trio.open_nursery() as nursery:
            flags = Flags(limit=MIB)
            nursery.start_soon(
                partial(qemu_img.convert, raw(source), raw(target), flags, ignore, inherit=[fd])
            )
            await until(lambda: users(lease))
            assert len(users(lease)) == 1
            nursery.cancel_scope.cancel()
    await until(lambda: users(tmp_path / "lease") == [])


@contextmanager
def inheritable(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
