"""The volume that a copy fills: made with an id of ours, deleted when the copy failed."""

from collections.abc import Sequence

from engine.commands import image_volumes, managed_volumes
from engine.commands.ends import Ends, ImageEnd
from engine.commands.run import Run
from engine.commands.stage import Facts, Kept, Thing


async def created(run: Run, ends: Ends) -> Facts:
    """is_zero: it was made just now, and reads as zeros; never of one that was there already."""
    target = ends.target
    if isinstance(target, ImageEnd):
        await image_volumes.created(
            run,
            target.domain,
            target.image,
            target.volume,
            ends.size,
            format=target.format,
            sparse=ends.sparse,
            legal=False,
        )
        return {"is_zero": False}
    if not run.resumed:  # else what is there may be ours
        await managed_volumes.must_have_room(run, target.domain, ends.size)
    made = await managed_volumes.created(run, target.domain, target.volume, ends.size)
    return {"is_zero": made}


async def deleted(run: Run, ends: Ends) -> None:
    """One that is not there is deleted. Raises StillUsed (4406), InQuarantine (4412): a host may
    have access to it, and nothing was done; and what adapters and hosts raise."""
    target = ends.target
    if not managed_volumes.was_asked(run, target.volume):
        return
    if isinstance(target, ImageEnd):
        ids = (target.volume,)
        await image_volumes.deleted(run, target.domain, target.image, volumes=ids)
    else:
        await managed_volumes.deleted(run, target.domain, target.volume)


def kept(ends: Ends) -> Sequence[Kept]:
    action = "clear the command; the disk of this volume is of no use"
    return (Kept(Thing.VOLUME, ends.target.volume, ends.target.domain, action=action),)
