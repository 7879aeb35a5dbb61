"""Jobs: copies that a host does for a command."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, func, select, update

from engine.db import rows
from engine.db.rows import Noun
from engine.db.schema import jobs

State = Literal["running", "done", "failed", "unresolved"]
MOVES = {
    "running": ("unresolved",),
    "done": ("running", "unresolved"),
    "failed": ("running", "unresolved"),
    "unresolved": ("running",),
}
_NOUN = Noun(jobs, "job", MOVES)


@dataclass(frozen=True)
class Job:
    """id: also of its lease. host: that was chosen. lease_domain: None: its target is a volume that
    has a lease of its own. progress: percent. rate: bytes per second. verdict: JSON, once there is
    one."""

    id: str
    command: str
    host: str
    lease_domain: str | None = None
    kind: str = "copy"
    generation: int = 0
    state: State = "running"
    progress: float | None = None
    bytes: int | None = None
    rate: float | None = None
    verdict: Mapping[str, Any] | None = None
    begun: float = 0.0
    ended: float | None = None


def get(c: Connection, id: str) -> Job:
    """Raises NoSuchObject (4400)."""
    return _NOUN.get(c, Job, id)


def find(c: Connection, id: str) -> Job | None:
    return _NOUN.find(c, Job, id)


def search(
    c: Connection,
    *,
    state: str | None = None,
    host: str | None = None,
    command: str | None = None,
    limit: int = rows.PAGE,
    offset: int = 0,
) -> list[Job]:
    """The newest first."""
    wanted = rows.where(jobs, state=state, host=host, command=command)
    query = rows.columns(jobs, Job).where(*wanted)
    query = query.order_by(jobs.c.begun.desc(), jobs.c.id.desc())
    return rows.rows(c, Job, rows.page(query, limit, offset))


def running(c: Connection) -> dict[str, int]:
    """{host: how many}."""
    query = select(jobs.c.host, func.count()).where(jobs.c.state == "running")
    return {row[0]: row[1] for row in c.execute(query.group_by(jobs.c.host))}


def add(c: Connection, job: Job) -> None:
    """Raises NameTaken (4401): there is one of that id."""
    _NOUN.add(c, asdict(job))


def report(
    c: Connection, id: str, progress: float | None, bytes: int | None, rate: float | None
) -> None:
    """How far it is; nothing, when it has ended."""
    still = update(jobs).where(jobs.c.id == id, jobs.c.state == "running")
    c.execute(still.values(progress=progress, bytes=bytes, rate=rate))


def end(c: Connection, id: str, verdict: Mapping[str, Any], *, at: float) -> None:
    """verdict: its "end" is the new state: done, failed, unresolved. Once done or failed it stays
    so: the same again is no error. Raises NoSuchObject (4400), WrongState (4403)."""
    state: State = verdict["end"]
    ended = None if state == "unresolved" else at
    values: dict[str, Any] = {"verdict": verdict, "ended": ended}
    if state == "done":
        values["progress"] = 100.0
    _NOUN.move(c, id, state, **values)


def withdraw(c: Connection, id: str, *, at: float) -> None:
    """It did not begin, or counts as failed; nothing, when it has ended or was never there."""
    left = update(jobs).where(jobs.c.id == id, jobs.c.state.in_(MOVES["failed"]))
    c.execute(left.values(state="failed", ended=at))
