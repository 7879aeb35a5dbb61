"""Leases rebuilt by one process while others copy under them."""

import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import trio

from leases import verbs
from tests.cli.run import Cli, ended
from tests.faults.copies import Copies
from tests.servers import MIB, pattern, raw_image, until

SIZE = 12 * MIB
COPIES = 3


def spoil(copies: Copies, offset: int) -> None:
    """Write over the record of the lease whose slot begins at `offset`."""
    geometry = copies.store.volume.geometry
    with open(copies.store.volume.path, "r+b") as volume:
        volume.seek(geometry.index_offset + 512 + geometry.number(offset) * 64)
        volume.write(b"?" * 64)


async def test_running_copies_end_as_if_nobody_had_rebuilt(
    copies: Copies, cli: Cli, tmp_path: Path
) -> None:
    """Their records are spoiled again and again, and brought back while they hold their leases."""
    source = raw_image(tmp_path / "source.raw", SIZE, data=pattern(SIZE))
    sd = copies.domain.id
    assert cli("domain", "open", Path(copies.domain.path).parent).code == 0
    jobs = [str(uuid.uuid4()) for _ in range(COPIES)]
    targets = [tmp_path / f"target{number}.raw" for number in range(COPIES)]
    idle = await copies.lease()
    told: list[Any] = []
    restored = 0
    with ExitStack() as stack:
        running = []
        for job, target in zip(jobs, targets, strict=True):
            options = ("--domain", sd, "--job-id", job, "--limit", 4 * MIB, "--keep-lease")
            start = cli.started("copy", source, target, *options, "--json")
            running.append(stack.enter_context(start))
        await until(lambda: all(t.exists() and t.stat().st_blocks for t in targets))
        places = {job: (await verbs.info(copies.store, job)).offset for job in (*jobs, idle)}
        while all(process.poll() is None for process in running):
            for place in places.values():
                spoil(copies, place)
            answer = cli("lease", "rebuild", sd, "--json")
            assert answer.code == 0
            assert [one["offset"] for one in answer.json["restored"]] == sorted(places.values())
            restored += len(answer.json["restored"])
            for job in jobs:
                assert (await verbs.info(copies.store, job)).offset == places[job]
        for process in running:
            told.append(await trio.to_thread.run_sync(ended, process))
    assert restored
    assert [one.code for one in told] == [0] * COPIES
    for job, target in zip(jobs, targets, strict=True):
        found = await copies.status(job)
        assert found.metadata is not None
        assert (found.metadata["job_status"], found.metadata["generation"]) == ("SUCCEEDED", 1)
        assert target.read_bytes() == source.read_bytes()
    found = await copies.status(idle)
    assert found.metadata is not None
    assert found.metadata["job_status"] == "PENDING"
