"""Room in the thin pool: what copies in flight may still take is not free, though LVM says so."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from endpoints.local import allotting, beginning, is_written
from endpoints.locks import Mode, any_taken, held
from host import local
from host.folder import Folder, Spec
from host.local_disk_here import Here
from storage.local_disk import LocalDisk

# Seconds in which others can begin their jobs, all together; a storage domain that does not answer
# must not keep a VM from being started.
BEGIN_TIME = 20.0
PERCENT_ERROR = 0.01  # LVM tells how much of a volume is allocated with two digits


@asynccontextmanager
async def room(here: Here) -> AsyncGenerator[int]:
    """The lock `allotting`, for who makes a thin disk in the body; yields the bytes of the pool
    that copies which live may still take. One that died takes nothing more.

    Ask LVM in the body how full the pool is: what is written meanwhile counts twice, and never not
    at all. Raises as storage.local_disks.
    """
    give_up = trio.current_time() + BEGIN_TIME
    while True:
        async with held([allotting(here.disks)]):
            disks = await here.disks.thin_filling()
            late = await local.run(_beginning, here, disks)
            if not late or trio.current_time() >= give_up:
                yield sum([await _may_take(here, one, unsure=one in late) for one in disks])
                return
        # Not under that lock: a start that stands still keeps nobody from looking.
        with trio.move_on_at(give_up):
            for one in late:
                async with held([beginning(here.disks, one.volume_id, Mode.SHARED)]):
                    pass


def _beginning(here: Here, disks: list[LocalDisk]) -> list[LocalDisk]:
    """Those whose job is not known to this host yet, if they will have one."""
    return [
        one for one in disks if any_taken([beginning(here.disks, one.volume_id, Mode.EXCLUSIVE)])
    ]


async def _may_take(here: Here, disk: LocalDisk, *, unsure: bool) -> int:
    """unsure: its job may be about to begin."""
    job_id, whole = disk.job_id, disk.size
    spec = None if job_id is None else await local.run(_spec, here.config.journal / job_id)
    if spec is None:  # it began as another user, say, or it is a copy of oVirt's own hook
        written = await local.run(is_written, here.disks, disk.volume_id)
        alive = unsure or disk.open or written
    else:
        alive = await here.jobs.alive(str(spec.job_id))
        whole = whole if spec.thin_bytes is None else min(whole, spec.thin_bytes)
    return max(0, whole - _allocated(disk)) if alive else 0


def _spec(path: Path) -> Spec | None:
    """Of a job; None: this host does not know it, or it is forgotten."""
    try:
        return Folder(path).spec()
    except (OSError, msgspec.MsgspecError):
        return None


def _allocated(disk: LocalDisk) -> int:
    """Bytes, at least."""
    percent = max(0.0, (disk.data_percent or 0.0) - PERCENT_ERROR)
    return int(disk.size * percent / 100)
