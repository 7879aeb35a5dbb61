"""The verdict on a job, for programs and for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cli.output import as_json
from engine.judgement import Verdict, Watch
from engine.lease_poller import Standing
from engine.story import Finding


def verdict_object(watch: Watch, found: Verdict) -> dict[str, Any]:
    return {
        **_names(watch),
        "verdict": found.end.value,
        "row": found.row,
        "reason": found.reason,
        "fenced": found.fenced,
        "cut_off": found.cut_off,
        "disagree": found.disagree,
        "cause": found.cause.name if found.cause else None,
        "action": found.action,
        "error": found.error,
        "story": [asdict(one) for one in found.story],
    }


def verdict_text(watch: Watch, found: Verdict) -> str:
    lines = [*_story(found.story), f"job {watch.job_id} is {found.end}: {found.reason}"]
    if found.error:
        lines.append(f"its host said: {_told(found.error)}")
    if found.disagree:
        lines.append("host and lease tell different ends: find out why")
    if found.cut_off:
        lines.append(
            f"end the access of its host ({watch.host}) to the target before the target is removed"
            " or used again"
        )
    if found.action:
        lines.append(f"change nothing; {found.action}")
    return "\n".join(lines)


def _told(error: object) -> str:
    message = error.get("message") if isinstance(error, Mapping) else None
    return str(message or as_json(error))


def standing_object(watch: Watch, found: Standing) -> dict[str, Any]:
    return {
        **_names(watch),
        "verdict": None,
        "row": found.row,
        "reason": found.why,
        "job": dict(found.info),
        "story": [asdict(one) for one in found.story],
    }


def standing_text(watch: Watch, found: Standing) -> str:
    said = f"there is no verdict on job {watch.job_id} yet: {found.why}; resolve again later"
    return "\n".join([*_story(found.story), said])


def _story(story: Sequence[Finding]) -> list[str]:
    return [str(one) for one in story]


def _names(watch: Watch) -> dict[str, Any]:
    return {
        "job_id": watch.job_id,
        "sd_id": str(watch.lease.sd_id),
        "lease_id": watch.lease.lease_id,
        "host": watch.host,
        "generation": watch.generation,
    }
