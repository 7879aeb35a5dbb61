"""Jobs of a moment, which need no worker: they change the metadata of a volume.

They are not in the journal, for it could say no more than the volume does: a change is one write
under the lease of the volume, which another agent cannot see the middle of. After a restart of
the agent such a job is not known any more (Host.getJobs leaves it out), and the generation of the
volume tells what became of it: the new one, it is done; the expected one, it never will be, and
may be asked for again. Asked for again after it was done, it changes nothing: the expected
generation is gone (911).
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from host.background import background
from jobs.job import Job, Work
from jobs.registry import Registry


class Updates:
    """Not thread safe: it belongs to the trio thread."""

    def __init__(self, registry: Registry, nursery: trio.Nursery) -> None:
        self._registry = registry
        self._nursery = nursery

    def start(self, job_id: str, work: Work, *, description: str) -> None:
        """Begin a job at once, however many copies wait. Raises JobExists (69)."""
        self._registry.start(_Update(job_id, work, description=description), self._nursery)

    def has(self, job_id: str) -> bool:
        """Is this one of these jobs? Raises NoSuchJob (66)."""
        return isinstance(self._registry.get(job_id), _Update)


class _Update(Job):
    """Told apart from the jobs of workers by its class."""


@asynccontextmanager
async def updates(registry: Registry) -> AsyncGenerator[Updates]:
    """For the body; what runs at its end is cancelled."""
    async with background() as nursery:
        yield Updates(registry, nursery)
