"""What commands write into the audit log, and tell to whoever listens."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from engine.commands import storable
from engine.commands.next_step import Did
from engine.commands.states import State
from engine.db import audit
from engine.db.audit import Severity
from engine.db.commands import Command

# Codes of rows in the audit log.
BEGUN, MOVED, STAGE_FAILED, STAGE_KEPT = 20000, 20001, 20002, 20003
WISHED = 20004  # abort, resolve, clear
ENDED = {
    State.SUCCEEDED: 20010,
    State.FAILED: 20011,
    State.ABORTED: 20012,
    State.UNRESOLVED: 20013,
    State.QUARANTINED: 20014,
}
NORMAL: Severity = "normal"
WARNING: Severity = "warning"
ERROR: Severity = "error"
ALERT: Severity = "alert"
_ENDS: dict[State, tuple[Severity, str]] = {
    State.SUCCEEDED: (NORMAL, "succeeded"),
    State.FAILED: (ERROR, "failed"),
    State.ABORTED: (WARNING, "was aborted"),
    State.UNRESOLVED: (ALERT, "is unresolved"),
    State.QUARANTINED: (ALERT, "failed, and not everything could be undone"),
}
_STAGES: dict[Did, tuple[Severity, int, str]] = {
    Did.BEGIN: (NORMAL, MOVED, "begins"),
    Did.DONE: (NORMAL, MOVED, "is done"),
    Did.FAILED: (WARNING, STAGE_FAILED, "failed"),
    Did.UNDO: (NORMAL, MOVED, "is undone"),
    Did.UNDONE: (NORMAL, MOVED, "was undone"),
    Did.KEPT: (ALERT, STAGE_KEPT, "was given up"),
}


@dataclass(frozen=True)
class Told:
    """A row of the audit log: severity, code, text."""

    severity: Severity
    code: int
    text: str


def begun(name: str) -> Told:
    return Told(NORMAL, BEGUN, f"{name} begins")


def stage(name: str, stage: str, did: Did, reason: str = "") -> Told:
    severity, code, what = _STAGES[did]
    return Told(severity, code, f"{name}: {stage} {what}" + (f": {reason}" if reason else ""))


def ended(name: str, state: State, reason: str = "") -> Told:
    severity, what = _ENDS[state]
    return Told(severity, ENDED[state], f"{name} {what}" + (f": {reason}" if reason else ""))


def wished(name: str, what: str) -> Told:
    return Told(NORMAL, WISHED, f"{name}: {what} was asked for")


def reason_of(data: Any) -> str:
    """Of the data of a journal entry."""
    data = data or {}
    error = data.get("error") or {}
    return str(data.get("reason") or error.get("message") or "")


def audited(c: Connection, row: Command, told: Told, at: float) -> int:
    """Write it into the audit log; the id of the row."""
    return audit.add(
        c,
        at=at,
        severity=told.severity,
        code=told.code,
        user=row.user,
        correlation=row.correlation,
        kind="command",
        object=row.id,
        text=storable.text(told.text),
    )
