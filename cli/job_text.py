"""How jobs of a host are shown to people."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from cli import answers, columns
from cli.answers import Info
from cli.output import explained
from cli.progress import amount, line
from cli.sizes import format_duration, format_rate, format_size
from protocol.reported import Reported

HEAD = ("JOB", "STATUS", "DONE", "BYTES", "RATE", "LEFT", "DESCRIPTION")


def moment(info: Info) -> str:
    """One line about a job: `ID copying 42%, 1.26G of 3.00G, 120M/s, 0:00:15 left`."""
    failure = f": {error(info)}" if "error" in info else ""
    return f"{info['id']} {line(info)}{failure}"


def error(info: Info) -> str:
    """Why a job failed, and the way out where there is one."""
    return explained(Reported(answers.error(info["error"])))


def table(rows: Sequence[Info]) -> str:
    """A row for each job, below a head."""
    return columns.table(HEAD, map(_cells, rows))


def _cells(info: Info) -> tuple[str, ...]:
    return (
        str(info["id"]),
        str(info["status"]),
        f"{info['progress']}%" if "progress" in info else "",
        format_size(info["bytes"]) if "bytes" in info else "",
        format_rate(info["rate"]) if "rate" in info else "",
        format_duration(info["eta"]) if "eta" in info else "",
        str(info.get("description", "")),
    )


def shown(info: Info) -> str:
    """Everything about one job, a line each."""
    return "\n".join(f"{key + ':':13} {text}" for key, text in _facts(info) if text)


def _facts(info: Info) -> Iterator[tuple[str, str]]:
    yield "job", str(info["id"])
    yield "description", str(info.get("description", ""))
    yield "status", line({key: info[key] for key in ("status", "stage", "progress") if key in info})
    yield "bytes", amount(info)
    yield "rate", format_rate(info["rate"]) if "rate" in info else ""
    yield "left", format_duration(info["eta"]) if "eta" in info else ""
    for key in ("created", "started", "ended"):
        yield key, _time(info[key]) if key in info else ""
    for key in ("source", "destination"):
        yield key, _end(info[key]) if key in info else ""
    yield "took", f"{info['seconds']} s" if "seconds" in info else ""
    yield "verified", "yes" if info.get("verified") is True else ""
    yield "path taken", str(info.get("path_taken", ""))
    yield "error", error(info) if "error" in info else ""


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _end(end: dict[str, Any]) -> str:
    """One end of a copy, as it was asked for."""
    if end.get("endpoint_type") == "div":
        return "volume " + "/".join(str(end.get(key)) for key in ("sd_id", "img_id", "vol_id"))
    lease = end.get("lease")
    held = ""
    if isinstance(lease, dict):
        held = f", lease {lease.get('lease_id')} in storage domain {lease.get('sd_id')}"
    return f"{end.get('url')} ({end.get('format')}{held})"
