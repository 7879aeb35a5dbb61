"""Moves over a world in memory, for tests."""

from typing import Any

from engine.commands.move_disk import MoveDisk
from tests.engine.commands.copy_world import Estate
from tests.engine.commands.test_copy_disk import SOURCE, nothing_is_left
from tests.engine.stand_in import until

__all__ = ["SOURCE", "moved", "moving", "nothing_is_left", "run", "unresolved"]


async def run(made: Estate, name: str, spec: Any) -> Any:
    """The row of a command, when it has ended."""
    return await made.ended(await made.commands.start(name, spec, user="admin"))


async def moved(made: Estate, target: str) -> tuple[Any, MoveDisk]:
    """Of the disk SOURCE, which is there already."""
    spec = MoveDisk(disk=SOURCE, domain=target)
    return await run(made, "move_disk", spec), spec


async def moving(made: Estate, target: str) -> tuple[str, MoveDisk]:
    """Its job runs, in a world in which none ends by itself."""
    spec = MoveDisk(disk=SOURCE, domain=target)
    command = await made.commands.start("move_disk", spec, user="admin")
    await until(lambda: any(spec.job in host.jobs for host in made.world.hosts.values()))
    return command, spec


async def unresolved(made: Estate, target: str) -> tuple[str, MoveDisk]:
    """A move whose host has forgotten its job, and whose lease or generation nobody understands."""
    world = made.world
    command, spec = await moving(made, target)
    for host in world.hosts.values():
        host.jobs.clear()
    if (volume := world.images.get((target, SOURCE), {}).get(spec.volume)) is not None:
        volume["generation"] = 7
    world.leases.pop(spec.job, None)
    assert (await made.ended(command)).state == "unresolved"
    return command, spec
