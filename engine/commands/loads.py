"""How many copies each storage domain has under way, from the places that were taken for them."""

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import Connection, select, union

from engine.db import schema

_RUNNING = schema.jobs.c.state == "running"


def by_domain(c: Connection) -> Mapping[str, int]:
    """By the id of the domain; a copy counts in the domain of its source and in that of its target.

    Those are the domains of the disks that its command has locked, and of the volume that it makes.
    """
    jobs, disks, volumes = schema.jobs, schema.disks, schema.volumes
    locked = select(jobs.c.command, disks.c.domain).join(disks, disks.c.locked_by == jobs.c.command)
    made = select(jobs.c.command, volumes.c.domain).join(
        volumes, volumes.c.command == jobs.c.command
    )
    rows = c.execute(union(locked.where(_RUNNING), made.where(_RUNNING)))  # no pair twice
    return Counter(domain for _, domain in rows)
