"""Points at which tests kill the engine, to see that every command goes on: LEASEHOLD_DIE_AT.

It is COMMAND:STAGE:WHERE. Read once, when the engine starts.
"""

import os
import signal

from engine.commands.stage import CommandType

VARIABLE = "LEASEHOLD_DIE_AT"
# "begin" is journalled and nothing done; it is done, and "done" is not journalled.
BEFORE, AFTER = "before", "after"
UNDO_BEFORE, UNDO_AFTER = "undo-before", "undo-after"
_at = os.environ.get(VARIABLE, "")


def reached(command: str, stage: str, where: str) -> None:
    if _at == f"{command}:{stage}:{where}":
        os.kill(os.getpid(), signal.SIGKILL)


def points(kind: CommandType) -> list[str]:
    """All of a command, in order; those of undos need a stage that fails."""
    acts = [f"{kind.name}:{one.name}:{where}" for one in kind.stages for where in (BEFORE, AFTER)]
    undos = [
        f"{kind.name}:{one.name}:{where}"
        for one in reversed(kind.stages)
        if one.undo is not None
        for where in (UNDO_BEFORE, UNDO_AFTER)
    ]
    return acts + undos
