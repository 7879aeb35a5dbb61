"""Copies by real hosts between real storage, compared byte for byte."""

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from engine.commands.copy_disk import CopyDisk
from engine.commands.move_disk import MoveDisk
from engine.db import disks, jobs
from tests.conformance.adapters import TOOLS, Site, file_site, tgt_site
from tests.engine.commands.copy_site import Estate, estate, same
from tests.managed import new_id
from tests.servers import LOOK, MIB, WAIT

pytestmark = pytest.mark.tools("sanlock", "qemu-nbd", "nbdcopy", "cmp", *TOOLS["file"])
KINDS = [
    "file",
    pytest.param("tgt", marks=[pytest.mark.full, pytest.mark.tools(*TOOLS["tgt"])]),
    pytest.param("chap", marks=[pytest.mark.full, pytest.mark.tools(*TOOLS["chap"])]),
]
DEAD = 180.0  # seconds; a host of sanlock is dead after 68 of its silence
SLOW = MIB  # bytes per second: such a copy does not end before something was done to it


@pytest.fixture(params=KINDS)
def sites(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mapping[str, Site]]:
    """Two managed domains."""
    with ExitStack() as stack:
        yield {new_id(): _site(stack, request.param, tmp_path / name) for name in "xy"}


def _site(stack: ExitStack, kind: str, folder: Path) -> Site:
    folder.mkdir()
    made = file_site(folder) if kind == "file" else tgt_site(folder, chap=kind == "chap")
    return stack.enter_context(made)


@asynccontextmanager
async def tidy(folder: Path, sites: Mapping[str, Site], *, data: int = 1) -> AsyncGenerator[Estate]:
    """In the end nothing is left."""
    async with estate(folder, sites, data=data) as made:
        yield made
        await made.nothing_is_left()


async def copied(made: Estate, disk: str, domain: str, **more: Any) -> CopyDisk:
    spec = CopyDisk(disk=disk, domain=domain, name="copy", **more)
    row = await made.ended(await made.commands.start("copy_disk", spec, user="admin"))
    assert row.state == "succeeded", row.error
    format = "qcow2" if spec.format == "cow" else "raw"
    assert same(await made.file(disk), await made.file(spec.copy), format)
    return spec


async def test_disks_are_copied_in_all_directions(
    tmp_path: Path, sites: Mapping[str, Site]
) -> None:
    x, y = sites
    async with tidy(tmp_path, sites, data=2) as made:
        managed, image = await made.filled(x), await made.filled(made.data[0])
        await copied(made, managed, y, verify=True)
        await copied(made, managed, made.data[0])
        await copied(made, image, x)
        await copied(made, image, made.data[1])
        await copied(made, managed, made.data[1], format="cow", verify=True)


async def test_disks_move_and_leave_nothing_behind(
    tmp_path: Path, sites: Mapping[str, Site]
) -> None:
    x, y = sites
    async with tidy(tmp_path, sites) as made:
        disk, twin = await made.filled(x), await made.filled(x)
        for domain in (y, made.data[0], x):
            spec = MoveDisk(disk=disk, domain=domain)
            row = await made.ended(await made.commands.start("move_disk", spec, user="admin"))
            assert row.state == "succeeded", row.error
            assert (await made.read(lambda c: disks.get(c, disk))).domain == domain
            assert same(await made.file(disk), await made.file(twin))


async def test_an_aborted_copy_leaves_nothing_behind(
    tmp_path: Path, sites: Mapping[str, Site]
) -> None:
    x, y = sites
    async with tidy(tmp_path, sites) as made:
        disk = await made.filled(x)
        for target in (y, made.data[0]):
            spec = CopyDisk(disk=disk, domain=target, name="copy", limit=SLOW)
            command = await made.commands.start("copy_disk", spec, user="admin")
            await moving(made, command)
            await made.commands.abort(command)
            assert (await made.ended(command)).state == "aborted"


async def moving(made: Estate, command: str) -> None:
    """Wait until bytes were copied."""
    with trio.fail_after(WAIT):
        while not (  # noqa: ASYNC110 - it has no event
            (progress := made.commands.progress(command)) and progress.bytes
        ):
            await trio.sleep(LOOK)


@pytest.mark.full
async def test_a_host_that_dies_loses_its_copy_and_another_one_does_it_again(
    tmp_path: Path, sites: Mapping[str, Site]
) -> None:
    x, y = sites
    async with tidy(tmp_path, sites) as made:
        disk = await made.filled(x)
        spec = CopyDisk(disk=disk, domain=y, name="copy", limit=SLOW)
        command = await made.commands.start("copy_disk", spec, user="admin")
        await moving(made, command)
        host = (await made.read(lambda c: jobs.get(c, spec.job))).host
        [machine] = [one for one in made.machines if one.id == host]
        machine.kill()
        row = await made.ended(command, DEAD)
        assert (row.state, row.verdict["cut_off"]) == ("failed", True)
        await made.nothing_is_left()
        again = await copied(made, disk, y)
        assert (await made.read(lambda c: jobs.get(c, again.job))).host != host
