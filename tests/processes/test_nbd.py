"""NBD: facts about servers, our own export, and a copy whose flush is checked."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from processes import nbd
from processes import tool as tool_module
from processes.nbd_url import unix_uri
from processes.tool import PYTHON, Limits
from protocol.errors import (
    BadOutput,
    CannotConnect,
    ConnectionLost,
    FlushFailed,
    ImageInUse,
    InputOutputError,
    NoSpaceLeft,
    ToolFailed,
    ToolStalled,
)
from tests.servers import (
    MIB,
    bad_flush,
    ended,
    flaky,
    garbage,
    nbdkit,
    pattern,
    pausable,
    qcow2_image,
    qemu_nbd,
    raw_image,
    silent,
    tool,
    until,
    users,
)

pytestmark = pytest.mark.tools("qemu-img", "qemu-io", "qemu-nbd", "nbdkit", "nbdcopy", "nbdinfo")
SIZE = 8 * MIB
Moved = Callable[[float | None, int], None]


def raw(path: Path) -> dict[str, Any]:
    return {"driver": "raw", "file": {"driver": "file", "filename": str(path)}}


def ignore(percent: float | None, moved: int) -> None:
    pass


def images(folder: Path) -> tuple[Path, Path]:
    source = raw_image(folder / "source", SIZE, data=pattern(3 * MIB), offset=MIB)
    return source, raw_image(folder / "target", SIZE, data=pattern(SIZE, seed=2))


def folder_of(uri: str) -> Path:
    return Path(parse_qs(urlsplit(uri).query)["socket"][0]).parent


async def copy(
    source: Path,
    uri: str,
    moved: Moved = ignore,
    *,
    limit: int | None = None,
    zero: bool = False,
    inherit: tuple[int, ...] = (),
) -> None:
    async with nbd.exported(raw(source), limit=limit, inherit=inherit) as (url, reader):
        await nbd.copy(url, uri, moved, reader=reader, target_is_zero=zero, inherit=inherit)


def slowly(act: Callable[[], None]) -> Moved:
    """Act once, in the middle of a copy."""
    done: list[bool] = []

    def moved(percent: float | None, moved: int) -> None:
        if not done and moved > MIB:
            done.append(True)
            act()

    return moved


# --- facts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True])
async def test_info_tells_size_and_what_the_server_can(tmp_path: Path, read_only: bool) -> None:
    image, _ = images(tmp_path)
    with qemu_nbd(image, tmp_path, read_only=read_only) as server:
        found = await nbd.info(server.url)
    facts = {"is_read_only": read_only, "can_flush": True, "can_multi_conn": True}
    assert found == nbd.Export(export_size=SIZE, **facts)


async def test_info_tells_of_a_server_that_cannot_flush(tmp_path: Path) -> None:
    with nbdkit(tmp_path, ["eval", "get_size=echo 512", "pread=exit 1"]) as server:
        found = await nbd.info(server.url)
    assert not found.can_flush
    assert found.is_read_only


async def test_no_server_cannot_be_connected_to(tmp_path: Path) -> None:
    with pytest.raises(CannotConnect, match="No such file or directory"):
        await nbd.info(unix_uri(str(tmp_path / "none")))


async def test_a_socket_that_its_server_left_behind_cannot_be_connected_to(tmp_path: Path) -> None:
    image, _ = images(tmp_path)
    with qemu_nbd(image, tmp_path) as server:
        server.kill()
        with pytest.raises(CannotConnect, match="Connection refused"):
            await nbd.info(server.url)


async def test_an_unknown_export_cannot_be_connected_to(tmp_path: Path) -> None:
    image, _ = images(tmp_path)
    with qemu_nbd(image, tmp_path) as server, pytest.raises(CannotConnect, match="export"):
        await nbd.info(unix_uri(str(server.socket), "other"))


async def test_a_server_that_speaks_no_nbd_cannot_be_connected_to(tmp_path: Path) -> None:
    with garbage(tmp_path) as server, pytest.raises(CannotConnect):
        await nbd.info(server.url)


async def test_a_server_that_says_nothing_cannot_be_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nbd, "INSPECT", Limits(seconds=0.3))
    with silent(tmp_path) as socket:
        with pytest.raises(CannotConnect, match=r"stood still"):
            await nbd.info(unix_uri(str(socket)))
        await until(lambda: users(socket) == [])


@pytest.mark.parametrize("output", ["", "{}", '{"exports": []}', '{"exports": [{}]}', "[" * 9999])
async def test_unexpected_output_of_nbdinfo_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    fake = tmp_path / "nbdinfo"
    fake.write_text(f"#!/bin/sh\necho '{output}'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BadOutput):
        await nbd.info(unix_uri(str(tmp_path / "none")))


@pytest.mark.parametrize("name", ["", "vol", "a b", "a/b", "ä", "a?b=c&d#e", "%41", "a+b", "'\""])
async def test_a_url_reaches_the_export_of_any_name(tmp_path: Path, name: str) -> None:
    image, _ = images(tmp_path)
    with qemu_nbd(image, tmp_path, export=name) as server:
        uri = unix_uri(str(server.socket), name)
        assert (await nbd.info(uri)).export_size == SIZE


@pytest.mark.parametrize("name", ["a b", "a+b", "a&b", "a%20b", "ä", "a#b?c=d"])
async def test_a_url_reaches_the_socket_of_any_name(tmp_path: Path, name: str) -> None:
    image, _ = images(tmp_path)
    (tmp_path / name).mkdir()
    with qemu_nbd(image, tmp_path / name) as server:
        uri = unix_uri(str(server.socket), "vol")
        assert (await nbd.info(uri)).export_size == SIZE


# --- our own export ---------------------------------------------------------------------------


async def test_an_export_is_served_for_the_body_and_leaves_nothing(tmp_path: Path) -> None:
    image, _ = images(tmp_path)
    async with nbd.exported(raw(image), inherit=()) as (uri, server):
        folder = folder_of(uri)
        assert folder.stat().st_mode & 0o777 == 0o700
        found = await nbd.info(uri)
        assert (found.export_size, found.is_read_only) == (SIZE, True)
        assert users(image) == [server.pid]
    assert ended(server.pid, 0)
    assert users(image) == []
    assert not folder.exists()


async def test_an_export_can_be_written_when_that_was_asked_for(tmp_path: Path) -> None:
    image, _ = images(tmp_path)
    async with nbd.exported(raw(image), writable=True, inherit=()) as (uri, _):
        assert not (await nbd.info(uri)).is_read_only
        tool(["qemu-io", "-f", "raw", "-c", "write -P 7 0 512", uri])
    assert image.read_bytes()[:512] == b"\7" * 512


async def test_an_export_reads_through_a_whole_chain(tmp_path: Path) -> None:
    base = qcow2_image(tmp_path / "base", SIZE, data=pattern(MIB))
    top = qcow2_image(tmp_path / "top", SIZE, data=pattern(MIB, 2), offset=MIB, backing=base)
    below = {**raw(base), "driver": "qcow2", "backing": None}
    node = {**raw(top), "driver": "qcow2", "backing": below}
    async with nbd.exported(node, inherit=()) as (uri, _):
        tool(["nbdcopy", uri, str(tmp_path / "copy")])
    expected = (pattern(MIB) + pattern(MIB, 2)).ljust(SIZE, b"\0")
    assert (tmp_path / "copy").read_bytes() == expected


async def test_the_servers_own_error_comes_at_once(tmp_path: Path) -> None:
    began = trio.current_time()
    with pytest.raises(ToolFailed, match="No such file or directory"):
        async with nbd.exported(raw(tmp_path / "missing"), inherit=()):
            pass
    assert trio.current_time() - began < nbd.START_TIME / 2


LISTENS_THEN_FAILS = """#!{python} -I
import select, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[sys.argv.index("--socket") + 1])
server.listen()
select.select([server], [], [])
sys.exit("qemu-nbd: Input/output error")
"""


async def test_a_server_that_listens_and_then_fails_was_never_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """qemu-nbd listens before it opens its image; here it fails after somebody has connected."""
    fake = tmp_path / "qemu-nbd"
    fake.write_text(LISTENS_THEN_FAILS.format(python=PYTHON))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(InputOutputError):
        async with nbd.exported(raw(tmp_path / "image"), inherit=()):
            pytest.fail("it does not serve anything")


async def test_an_image_in_use_is_told_by_class(tmp_path: Path) -> None:
    image, _ = images(tmp_path)
    with qemu_nbd(image, tmp_path), pytest.raises(ImageInUse):
        async with nbd.exported(raw(image), inherit=()):
            pass


async def test_a_server_that_never_listens_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "qemu-nbd"
    fake.write_text("#!/bin/sh\nexec sleep 1000000\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(nbd, "START_TIME", 0.3)
    image, _ = images(tmp_path)
    with open(image, "rb") as held:
        with pytest.raises(ToolStalled):
            async with nbd.exported(raw(image), inherit=[held.fileno()]):
                pass
        assert users(image) == []


# --- the copy ---------------------------------------------------------------------------------


async def test_a_copy_writes_every_byte_over_what_was_there(tmp_path: Path) -> None:
    source, target = images(tmp_path)
    with qemu_nbd(target, tmp_path) as server:
        await copy(source, server.url)
    assert target.read_bytes() == source.read_bytes()


async def test_a_zero_target_gets_no_zeros_written(tmp_path: Path) -> None:
    source, dirty = images(tmp_path)
    zero = raw_image(tmp_path / "zero", SIZE)
    with qemu_nbd(zero, tmp_path) as server:
        await copy(source, server.url, zero=True)
    assert zero.read_bytes() == source.read_bytes()
    with qemu_nbd(dirty, tmp_path) as server:
        await copy(source, server.url, zero=True)
    assert dirty.read_bytes() != source.read_bytes()  # the caller has to know


async def test_a_copy_tells_how_far_it_is(tmp_path: Path) -> None:
    source, target = images(tmp_path)
    percents: list[float] = []
    counters: list[int] = []

    def moved(percent: float | None, moved: int) -> None:
        percents.extend([] if percent is None else [percent])
        counters.append(moved)

    with qemu_nbd(target, tmp_path) as server:
        await copy(source, server.url, moved, limit=16 * MIB)
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert max(counters) >= 3 * MIB


async def test_a_limit_holds_the_reader_back(tmp_path: Path) -> None:
    """A lower bound only: 16 MiB at 16 MiB/s are a second, and a few milliseconds without."""
    source = raw_image(tmp_path / "source", 2 * SIZE, data=pattern(2 * SIZE))
    target = raw_image(tmp_path / "target", 2 * SIZE)
    with qemu_nbd(target, tmp_path) as server:
        limited = await timed(copy, source, server.url, limit=16 * MIB)
    assert limited > 0.5
    assert target.read_bytes() == source.read_bytes()


async def timed(work: Any, *arguments: Any, **options: Any) -> float:
    began = trio.current_time()
    await work(*arguments, **options)
    return trio.current_time() - began


async def test_every_process_of_the_copy_keeps_the_lease(tmp_path: Path) -> None:
    source, target = images(tmp_path)
    lease = os.open(tmp_path / "lease", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    names: set[str] = set()

    def look(percent: float | None, moved: int) -> None:
        for pid in users(tmp_path / "lease"):
            names.add(Path(f"/proc/{pid}/comm").read_text().strip())

    try:
        with qemu_nbd(target, tmp_path) as server:
            await copy(source, server.url, look, limit=16 * MIB, inherit=(lease,))
        assert {"qemu-nbd", "nbdcopy"} <= names
        assert users(tmp_path / "lease") == []
    finally:
        os.close(lease)


# --- faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("times", "flushes"), [("always", 1), ("first", 1)])
async def test_a_flush_that_fails_is_a_copy_that_failed(
    tmp_path: Path, times: Literal["always", "first"], flushes: int
) -> None:
    """`first`: the server tells once only, so only the answer to the copy's own flush counts."""
    source, target = images(tmp_path)
    with bad_flush(tmp_path, target, times=times) as server:
        with pytest.raises(FlushFailed, match="Input/output error") as caught:
            await copy(source, server.url)
        assert server.count == flushes
        assert caught.value.image == server.url
        if times == "first":
            tool(["qemu-io", "-f", "raw", "-c", "flush", server.url])
    assert target.read_bytes() == source.read_bytes()  # all was written, it only may not last


async def test_the_copy_is_flushed(tmp_path: Path) -> None:
    source, target = images(tmp_path)
    with bad_flush(tmp_path, target, times="never") as server:
        await copy(source, server.url)
        assert server.count >= 1


@pytest.mark.parametrize(
    ("error", "kind"), [("EIO", InputOutputError), ("ENOSPC", NoSpaceLeft), ("EPERM", ToolFailed)]
)
async def test_a_write_error_in_the_middle_fails_by_class(
    tmp_path: Path, error: str, kind: type[ToolFailed]
) -> None:
    source, target = images(tmp_path)
    with flaky(tmp_path, target, error=error) as server:
        await copy(source, server.url)
        with pytest.raises(kind) as caught:
            await copy(source, server.url, slowly(server.fail), limit=4 * MIB)
    assert type(caught.value) is kind


async def test_a_failure_to_write_is_no_failure_to_flush_whatever_the_socket_is_called(
    tmp_path: Path,
) -> None:
    source, target = images(tmp_path)
    (tmp_path / "flush").mkdir()
    with flaky(tmp_path / "flush", target) as server:
        server.kill()
        with pytest.raises(ConnectionLost):
            await copy(source, server.url)


async def test_a_read_error_fails_the_copy(tmp_path: Path) -> None:
    source, target = images(tmp_path)
    with flaky(tmp_path, source, on="read") as reader, qemu_nbd(target, tmp_path) as server:
        reader.fail()
        node = {"type": "unix", "path": str(reader.socket)}
        disk = {"driver": "raw", "file": {"driver": "nbd", "server": node}}
        async with nbd.exported(disk, inherit=()) as (uri, ours):
            with pytest.raises(InputOutputError):
                await nbd.copy(
                    uri, server.url, ignore, reader=ours, target_is_zero=False, inherit=()
                )


async def test_a_server_that_is_killed_in_the_middle_is_a_lost_connection(tmp_path: Path) -> None:
    source, target = images(tmp_path)
    with qemu_nbd(target, tmp_path) as server, pytest.raises(ConnectionLost):
        await copy(source, server.url, slowly(server.kill), limit=4 * MIB)


async def test_our_own_reader_that_is_killed_is_a_lost_connection(tmp_path: Path) -> None:
    source, target = images(tmp_path)
    with qemu_nbd(target, tmp_path) as server:
        async with nbd.exported(raw(source), limit=4 * MIB, inherit=()) as (uri, reader):

            def kill() -> None:
                os.kill(reader.pid, 9)

            with pytest.raises(ConnectionLost):
                await nbd.copy(
                    uri, server.url, slowly(kill), reader=reader, target_is_zero=False, inherit=()
                )


async def test_an_abort_while_the_server_hangs_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_module, "TERM_WAIT", 0.5)
    source, target = images(tmp_path)
    with pausable(tmp_path, target) as server:
        server.pause()
        with trio.CancelScope() as scope:

            def look(percent: float | None, moved: int) -> None:
                if percent is None and moved > MIB:  # all that can be read was, now it hangs
                    scope.cancel()

            await copy(source, server.url, look)
        assert scope.cancelled_caught
        assert users(source) == []
        assert users(server.socket) == [server.pid]
        server.resume()


def test_the_helpers_of_this_test_tell_the_truth(tmp_path: Path) -> None:
    """A flush that fails once only is seen by the first who asks, and by nobody else."""
    image = raw_image(tmp_path / "a", MIB)
    with bad_flush(tmp_path, image, times="first") as server:
        flush = ["qemu-io", "-f", "raw", "-c", "flush", server.url]
        codes = [subprocess.run(flush, check=False, capture_output=True).returncode for _ in "12"]
    assert server.count >= 1
    assert codes[1] == 0
