"""The ways in which a host fails under a command of the engine, and how it is well again.

To fail a host in a stage the engine is killed there first: the stage has begun, and nothing of it
is done yet.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.engine_estate import Estate, command_row
from tests.engine_hosts import AgentHost, until
from tests.faults.engine_scenes import SCENES, Scene, ended, in_the_middle

DEATH = 68.0  # seconds of silence until a host is dead, at io_timeout 1
LONGEST = 3 * DEATH
MIDDLE = "the middle of the copy"


@dataclass(frozen=True)
class Failure:
    """at_once: it is mended while the command goes on, as systemd does; else after its end."""

    fail: Callable[[AgentHost], None]
    mend: Callable[[AgentHost], None]
    at_once: bool = False


FAILURES = {
    "agent": Failure(AgentHost.kill_agent, AgentHost.start, at_once=True),
    "agent for long": Failure(AgentHost.kill_agent, AgentHost.start),
    "sanlock": Failure(lambda host: host.daemon.kill(), lambda host: host.daemon.start()),
    "host": Failure(AgentHost.die, AgentHost.revive),
}


def begun(made: Estate, scene: Scene, where: str) -> AgentHost:
    """A command of the scene that has come as far as `where`, a stage or MIDDLE; its host, or the
    one that would be chosen now. In a stage the engine was killed."""
    scene.prepare()
    if where == MIDDLE:
        made.start()
        scene.begin()
        return in_the_middle(made)
    command = type_of(scene)
    made.start(die_at=f"{command}:{where}:before")
    row = command_row(made, scene.begin())
    made.engine.died()
    chosen = command_row(made, row.id).host
    return made.host(chosen) if chosen else made.a


def type_of(scene: Scene) -> str:
    return next(name for name, kind in SCENES.items() if isinstance(scene, kind))


def outcome(made: Estate, scene: Scene, where: str, how: str) -> str:
    """Fail the host of a command of the scene there; the state in which the command has ended.

    All hosts are well again then.
    """
    host, failure = begun(made, scene, where), FAILURES[how]
    failure.fail(host)
    began = time.monotonic()
    if made.engine.running.over:
        made.start()
    if failure.at_once:
        failure.mend(host)
    state = ended(made, scene.command, LONGEST)
    if how == "host" and where == MIDDLE:  # its lease is free when the other host calls it dead
        assert time.monotonic() - began > DEATH - 3  # the last renewal was a moment before
    if not failure.at_once:
        failure.mend(host)
    until(made.is_whole, seconds=2 * DEATH)
    return state
