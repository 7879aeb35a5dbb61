"""The steps of a command, as oVirt's clients see them: made of its journal. Pure."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.commands.next_step import Did, final_of
from engine.commands.stage import Stage
from engine.db.stages import Line

# Of a step, by the last event of its stage; what is kept is a step of which nobody knows.
STATUS = {
    Did.BEGIN: "started",
    Did.DONE: "finished",
    Did.FAILED: "failed",
    Did.UNDO: "started",
    Did.UNDONE: "aborted",
    Did.KEPT: "unknown",
}
# Of a job, by the state of its command.
JOB_STATUS = {
    "running": "started",
    "undoing": "started",
    "succeeded": "finished",
    "failed": "failed",
    "quarantined": "failed",
    "aborted": "aborted",
    "unresolved": "unknown",
}


@dataclass(frozen=True)
class Step:
    """status: of STATUS. kind: executing, or finalizing: behind the point of no return, and undone.

    ended: None: it has not. error: what went wrong in it, "" for nothing.
    """

    id: str
    number: int
    name: str
    title: str
    kind: str
    status: str
    started: float
    ended: float | None
    error: str


def steps(command: str, stages: Sequence[Stage], journal: Sequence[Line]) -> list[Step]:
    """Those stages that have begun, in their order. command: its id."""
    final = final_of(stages)
    behind = False
    made: list[Step] = []
    for number, stage in enumerate(stages, 1):
        lines = [line for line in journal if line.name == stage.name]
        if lines:
            made.append(_step(command, stage, number, lines, behind=behind))
        behind = behind or stage is final
    return made


def _step(command: str, stage: Stage, number: int, lines: list[Line], *, behind: bool) -> Step:
    last = lines[-1]
    undone = any(line.event in (Did.UNDO, Did.UNDONE) for line in lines)
    return Step(
        id=str(uuid.uuid5(uuid.UUID(command), stage.name)),
        number=number,
        name=stage.name,
        title=stage.title or stage.name,
        kind="finalizing" if behind or undone else "executing",
        status=STATUS[Did(last.event)],
        started=lines[0].at,
        ended=None if STATUS[Did(last.event)] == "started" else last.at,
        error=_error(lines),
    )


def _error(lines: Sequence[Line]) -> str:
    for line in reversed(lines):
        if line.event in (Did.FAILED, Did.KEPT):
            return text_of_error(line.data or {})
    return ""


def text_of_error(data: Mapping[str, Any]) -> str:
    """Of the error object that a journal or a row has; or of a reason."""
    error = data.get("error")
    if isinstance(error, Mapping):
        return str(error.get("message") or error.get("kind") or "")
    return str(error or data.get("message") or data.get("reason") or "")
