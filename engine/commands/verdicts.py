"""A verdict as it stands in the journal: it is written once, and never asked for again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from engine.host_view import HostView, called_of
from engine.judgement import End, Verdict
from engine.story import Finding
from protocol.errors import CopyFailed, Error
from protocol.reported import Reported

LONGEST = 4000  # characters


def recorded(verdict: Verdict, hosts: Sequence[HostView] = ()) -> dict[str, Any]:
    """end, row, reason, fenced, cut_off, disagree, cause (a name or null), action, error, story
    (findings, with their text). hosts: by whose names the text calls them."""
    error = verdict.error
    return {
        "end": verdict.end.value,
        "row": verdict.row,
        "reason": verdict.reason,
        "fenced": verdict.fenced,
        "cut_off": verdict.cut_off,
        "disagree": verdict.disagree,
        "cause": verdict.cause.name if verdict.cause else None,
        "action": verdict.action,
        "error": _error(error),
        "story": [{**asdict(one), "text": _text(one, hosts)} for one in verdict.story],
    }


def _text(one: Finding, hosts: Sequence[HostView]) -> str:
    return one.text(called_of(hosts, one.host) if one.host else "")


def _error(told: object) -> dict[str, Any] | None:
    """Of what a host told of the error of its job: as much as is of use, and fits into a row."""
    if not isinstance(told, Mapping) or type(told.get("code")) is not int:
        return None
    data = told.get("data")
    facts = data if isinstance(data, Mapping) and len(msgspec.json.encode(data)) < LONGEST else {}
    kind, message = (str(told.get(name, ""))[:LONGEST] for name in ("kind", "message"))
    return {"code": told["code"], "kind": kind, "message": message, "data": facts}


def failure(job_id: str, verdict: Mapping[str, Any]) -> Error:
    """Why a copy with this verdict failed: the job's own error, where its host told one."""
    error = verdict.get("error")
    if isinstance(error, Mapping):
        return Reported(dict(error))
    return CopyFailed(job_id, str(verdict["reason"]))


def is_done(verdict: Mapping[str, Any]) -> bool:
    return bool(verdict["end"] == End.DONE)
