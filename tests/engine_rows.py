"""Many rows for the tables of an engine, as figures need them."""

import time
import uuid
from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection

from engine.db import schema
from tests.engine_left import with_driver


def host_rows(c: Connection, folder: Path, count: int) -> list[str]:
    """Hosts whose agents listen on FOLDER/NUMBER; their ids."""
    rows = [
        {
            "id": str(uuid.uuid4()),
            "name": f"host-{number}",
            "url": f"unix:{folder / str(number)}",
            "maintenance": False,
            "added": 0.0,
        }
        for number in range(count)
    ]
    c.execute(schema.hosts.insert(), rows)
    return [str(row["id"]) for row in rows]


def finished_commands(url: str, count: int) -> None:
    """Copies that have succeeded, with their stages, jobs and lines of the audit log."""
    engine = sqlalchemy.create_engine(with_driver(url))
    now = time.time()
    ids = [(str(uuid.uuid4()), str(uuid.uuid4()), now - number) for number in range(count)]
    with engine.begin() as c:
        c.execute(schema.commands.insert(), [_command(*one) for one in ids])
        c.execute(schema.stages.insert(), [row for one in ids for row in _stages(*one)])
        c.execute(schema.jobs.insert(), [_job(*one) for one in ids])
        c.execute(schema.audit.insert(), [_line(*one) for one in ids])
    engine.dispose()


def _command(id: str, job: str, at: float) -> dict[str, object]:
    spec = {"disk": id, "domain": id, "name": "copy", "job": job, "verify": False}
    return {
        **{"id": id, "type": "copy_disk", "state": "succeeded", "stage": None, "spec": spec},
        **{"facts": {}, "user": "admin@internal", "abort_asked": False},
        **{"created": at - 9, "changed": at, "ended": at},
    }


def _stages(id: str, job: str, at: float) -> list[dict[str, object]]:
    names = ("place", "create", "attach_source", "attach_target", "lease", "copy", "quiesce")
    events = [(name, event) for name in names for event in ("begin", "done")]
    return [
        {"command": id, "n": n, "name": name, "event": event, "at": at, "data": {}}
        for n, (name, event) in enumerate(events, 1)
    ]


def _job(id: str, job: str, at: float) -> dict[str, object]:
    verdict = {"end": "done", "row": "2", "reason": "host and lease say that it succeeded"}
    return {
        **{"id": job, "command": id, "host": id, "lease_domain": id, "kind": "copy"},
        **{"generation": 0, "state": "done", "progress": 100.0, "bytes": 1 << 30},
        **{"rate": 1e8, "verdict": verdict, "begun": at - 8, "ended": at},
    }


def _line(id: str, job: str, at: float) -> dict[str, object]:
    return {
        **{"at": at, "severity": "normal", "code": 1, "user": "admin@internal"},
        **{"kind": "command", "object": id, "text": "copy_disk has succeeded"},
    }
