"""The stages that copying and moving have in common, from the choice of a host to the verdict.

    place           a host is chosen, once and for all, and a place of it taken
    create          the target volume
    attach_source   both managed ends are attached to the host ...
    attach_target
    lease           ... and a managed target gets the lease of the job
    copy            the job runs, and is judged

What each leaves is undone in the reverse order, after the access of the host to the target was cut:
that is the undo of `copy`, so neither the lease nor the target is deleted before.
"""

from collections.abc import Sequence
from functools import partial

import msgspec

from engine.commands import attaching, copy_rows, copying, leasing, local_copies, placing, targets
from engine.commands.ends import End, Ends, ImageEnd, ManagedEnd
from engine.commands.run import Run
from engine.commands.stage import Facts, Kept, Stage
from engine.db import jobs
from protocol.local_disk_policy import Operation


def ends_of(run: Run) -> Ends:
    return msgspec.convert(run.facts["ends"], Ends)


async def place(run: Run) -> Facts:
    await _note_ends(run)
    return await placing.placed(run, ends_of(run))


async def place_to_leave(run: Run) -> Facts:
    """As `place`, for a disk that will not be where it was."""
    await _note_ends(run)
    await check_leaving(run)
    return await placing.placed(run, ends_of(run))


async def check_leaving(run: Run) -> None:
    """Raises UnsupportedOperation (2009): a local disk is a copy of what would leave its place."""
    end = ends_of(run).source
    image = end.image if isinstance(end, ImageEnd) else None
    await local_copies.check(run, Operation.MOVE_DISK, run.spec.disk, image, end.volume)


async def _note_ends(run: Run) -> None:
    if "ends" not in run.facts:
        ends = await run.read(partial(copy_rows.ends, spec=run.spec))
        await run.note(ends=msgspec.to_builtins(ends))


async def leave_place(run: Run) -> None:
    run.together(partial(jobs.withdraw, id=run.spec.job, at=run.services.clock()))


async def create(run: Run) -> Facts:
    return await targets.created(run, ends_of(run))


async def delete_target(run: Run) -> None:
    await targets.deleted(run, ends_of(run))


def kept_target(run: Run) -> Sequence[Kept]:
    return targets.kept(ends_of(run)) if "ends" in run.facts else ()


async def attach_source(run: Run) -> Facts | None:
    if not isinstance(end := ends_of(run).source, ManagedEnd):
        return None
    return {"source_url": await attaching.attached(run, end)}


async def attach_target(run: Run) -> Facts | None:
    if not isinstance(end := ends_of(run).target, ManagedEnd):
        return None
    return {"target_url": await attaching.attached(run, end)}


async def cut_source(run: Run) -> None:
    if isinstance(end := ends_of(run).source, ManagedEnd):
        await attaching.cut(run, end)


async def cut_target(run: Run) -> None:
    if isinstance(end := ends_of(run).target, ManagedEnd):
        await attaching.cut(run, end)


def kept_source_access(run: Run) -> Sequence[Kept]:
    return _kept_access(run, ends_of(run).source) if "ends" in run.facts else ()


def kept_target_access(run: Run) -> Sequence[Kept]:
    """Where a host may write to the volume, the volume is kept too."""
    if "ends" not in run.facts:
        return ()
    return (*kept_target(run), *_kept_access(run, ends_of(run).target))


def _kept_access(run: Run, end: End) -> Sequence[Kept]:
    managed = isinstance(end, ManagedEnd) and "host" in run.facts
    return (attaching.kept(run, end),) if managed else ()


async def make_lease(run: Run) -> None:
    if ref := leasing.lease_of(run):
        await leasing.made(run, ref)


async def delete_lease(run: Run) -> None:
    if ref := leasing.lease_of(run):
        await leasing.deleted(run, ref)


def kept_lease(run: Run) -> Sequence[Kept]:
    ref = leasing.lease_of(run)
    return (leasing.kept(run, ref),) if ref else ()


async def copy(run: Run) -> None:
    await copying.copied(run, ends_of(run))


def kept_copy(run: Run) -> Sequence[Kept]:
    """Without a verdict everything is kept."""
    if "verdict" in run.facts:
        return kept_target_access(run)
    return (*kept_target_access(run), *kept_lease(run), *kept_source_access(run))


def road(*, final: bool) -> tuple[Stage, ...]:
    """final: the copy is all that was wanted."""
    return (
        Stage(
            "place",
            place if final else place_to_leave,
            leave_place,
            needs=(),
            title="choosing a host",
            undone="gives the place up",
        ),
        Stage(
            "create",
            create,
            delete_target,
            needs=(),
            kept=kept_target,
            title="creating the target",
            undone="deletes the target",
        ),
        Stage(
            "attach_source",
            attach_source,
            cut_source,
            needs=(),
            kept=kept_source_access,
            title="attaching the source",
            undone="ends the access of the host to the source",
        ),
        Stage(
            "attach_target",
            attach_target,
            cut_target,
            needs=("create",),
            kept=kept_target_access,
            title="attaching the target",
            undone="ends the access of the host to the target",
        ),
        Stage(
            "lease",
            make_lease,
            delete_lease,
            needs=(),
            kept=kept_lease,
            title="creating the lease of the job",
            undone="deletes the lease",
        ),
        Stage(
            "copy",
            copy,
            cut_target,
            final=final,
            needs=("create", "attach_target", "lease"),
            kept=kept_copy,
            title="copying",
            undone="ends the access of the host to the target, by force if it is silent",
        ),
    )
