"""A job of an engine is followed to its end, through restarts of the engine."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import trio

from cli import exits
from cli.engine_client import OURS, Engine, Session
from cli.output import Output
from cli.progress import follow
from protocol.errors import CannotConnect, ConnectionLost, DatabaseGone
from protocol.reported import Reported

EVERY = 0.5  # seconds between two looks
ACTIVE = ("running", "undoing")
CODES = {
    "succeeded": exits.OK,
    "failed": exits.FAILED,
    "quarantined": exits.FAILED,
    "aborted": exits.ABORTED,
    "unresolved": exits.UNRESOLVED,
}
Command = dict[str, Any]


class Following:
    """A job as cli.progress shows it."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.row: Command = {}

    def info(self) -> dict[str, Any]:
        """status, and where known stage, and how far its copy is."""
        told: dict[str, Any] = {"status": str(self.row.get("state", "pending"))}
        if stage := stage_of(self.row):
            told["stage"] = stage
        return {**told, **progress_of(self.row.get("progress") or {})}


def stage_of(row: Command) -> str:
    """What a job does, in words."""
    name = str(row.get("stage") or "")
    titles = {step.get("name"): str(step.get("title")) for step in row.get("steps") or ()}
    undoing = "undoing: " if row.get("state") == "undoing" else ""
    return f"{undoing}{titles.get(name, name)}"


def progress_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """progress (percent), bytes, total_bytes, rate, eta: what is told of them."""
    names = ("percent", "bytes", "total_bytes", "rate", "eta")
    found = {name: facts[name] for name in names if isinstance(facts.get(name), int | float)}
    if "percent" in found:
        found["progress"] = int(found.pop("percent"))
    return found


async def followed(engine: Engine, session: Session, job: str, out: Output) -> Command:
    """The job when it has ended, or is unresolved. Its progress is shown until then.

    Raises as Session.get, and CannotConnect, ConnectionLost: the engine is gone for longer than
    an answer may take.
    """
    following, said = Following(f"job {job}"), deque[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, following, said, out)
        deadline: float | None = None
        while True:
            try:
                following.row = await session.get(f"{OURS}/commands/{job}")
                deadline = None
            except (CannotConnect, ConnectionLost, Reported) as e:
                if isinstance(e, Reported) and e.number != DatabaseGone.code:
                    raise
                now = trio.current_time()
                if deadline is None:
                    deadline = now + engine.timeout
                    said.append(f"{e}; trying again for {engine.timeout:g} s")
                if now >= deadline:
                    raise
            if following.row.get("state", "running") not in ACTIVE:
                break
            await trio.sleep(EVERY)
        nursery.cancel_scope.cancel()
    return following.row


def exit_code(row: Mapping[str, Any]) -> int:
    """Of a command that waited for the end of a job."""
    verdict = row.get("verdict")
    fenced = isinstance(verdict, Mapping) and verdict.get("fenced") is True
    code = CODES.get(str(row.get("state")), exits.FAILED)
    return exits.ABORTED if fenced and code == exits.FAILED else code


def told(row: Mapping[str, Any], text: str, out: Output) -> int:
    """Say how a job ended; the exit code."""
    code = exit_code(row)
    if code == exits.OK:
        out.done(row, text)
        return code
    out.error(Reported(failure(row)), {"job": dict(row)})
    return code


def failure(row: Mapping[str, Any]) -> dict[str, Any]:
    """Why a job has not succeeded: code, kind, message, data."""
    error, verdict = row.get("error"), row.get("verdict")
    message = f"job {row.get('id')} is {row.get('state')}"
    code, kind = 100, "Error"
    if isinstance(error, Mapping):
        message = f"{message}: {error.get('message')}"
        code, kind = int(error.get("code", 100)), str(error.get("kind", "Error"))
    elif isinstance(verdict, Mapping) and verdict.get("reason"):
        message = f"{message}: {verdict['reason']}"
    if isinstance(verdict, Mapping) and verdict.get("action"):
        message = f"{message}; {verdict['action']}"
    return {"code": code, "kind": kind, "message": message, "data": {}}
