"""How the jobs of an engine and what it keeps are shown to people."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cli.columns import facts
from cli.engine_following import Following, failure
from cli.progress import amount, speed

Row = Mapping[str, Any]


def moment(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def job_cells(row: Row) -> tuple[str, ...]:
    told = (row.get(key) or "" for key in ("id", "type", "state", "stage"))
    return (*map(str, told), moment(row.get("created")), str(row.get("user", "")))


def job_text(row: Row) -> str:
    """Everything about one job, a line each, its steps and its story below."""
    following = Following("")
    following.row = dict(row)
    info = following.info()
    percent = f"{info['progress']}%" if "progress" in info else ""
    head = facts(
        [
            ("job", str(row.get("id", ""))),
            ("type", str(row.get("type", ""))),
            ("state", str(row.get("state", ""))),
            ("stage", str(row.get("stage") or "")),
            ("progress", ", ".join(part for part in (percent, amount(info), speed(info)) if part)),
            ("host", str(row.get("host") or "")),
            ("user", str(row.get("user", ""))),
            ("correlation", str(row.get("correlation") or "")),
            ("begun", moment(row.get("created"))),
            ("ended", moment(row.get("ended"))),
            ("error", failure(row)["message"] if row.get("error") else ""),
            ("asked for", ", ".join(f"{k}={v}" for k, v in (row.get("spec") or {}).items())),
        ]
    )
    steps = [_step(one) for one in row.get("steps") or ()]
    return "\n".join([head, *steps, *_story(row.get("verdict"))])


def _step(step: Row) -> str:
    error = f": {step['error']}" if step.get("error") else ""
    return f"  {moment(step.get('started'))}  {step.get('title')}: {step.get('status')}{error}"


def _story(verdict: object) -> list[str]:
    if not isinstance(verdict, Mapping):
        return []
    told = [f"verdict: {verdict.get('end')}: {verdict.get('reason')}"]
    found = verdict.get("story") or ()
    told += [f"  {one['text']}" for one in found if isinstance(one, Mapping) and "text" in one]
    if verdict.get("action"):
        told.append(f"what to do: {verdict['action']}")
    return told


def kept_text(row: Row) -> str:
    """One thing in quarantine: what, why, and what a person does."""
    where = f" on host {_called(row, 'host')}" if row.get("host") else ""
    cleared = f" (cleared {moment(row['cleared'])})" if row.get("cleared") else ""
    return (
        f"{row.get('id')}: {row.get('kind')} {row.get('object')} of domain {_called(row, 'domain')}"
        f"{where}, since {moment(row.get('at'))}{cleared}\n"
        f"  why: {row.get('reason')}\n  what to do: {row.get('action')}\n"
        f"  of job {row.get('command')}"
    )


def _called(row: Row, what: str) -> str:
    """As an engine calls it; by the id alone where there is none any more."""
    name, id = row.get(f"{what}_name"), row.get(what)
    return f"{name} ({id})" if name else str(id)
