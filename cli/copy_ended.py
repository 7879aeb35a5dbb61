"""What is told about the end of a copy, wherever it ran."""

import signal
from typing import Any, Protocol

from cli import exits
from cli.interrupt import Interrupt
from cli.output import Output, explained
from cli.sizes import format_rate, format_size
from jobs.status import Status
from protocol.errors import ActionStopped, Error, LeaseLost, SanlockLVBError


class Tracked(Protocol):
    """What tracks the copy: see cli/tracking.py."""

    @property
    def names(self) -> dict[str, str]: ...

    async def remove(self) -> None: ...

    async def story(self) -> tuple[dict[str, Any], str]: ...


class Ended(Protocol):
    """A job that has ended."""

    @property
    def id(self) -> str: ...

    @property
    def status(self) -> Status: ...

    @property
    def result(self) -> dict[str, Any] | None: ...

    @property
    def error(self) -> Exception | None: ...

    def info(self) -> dict[str, Any]: ...


async def succeeded(tracking: Tracked, job: Ended, out: Output, *, keep_lease: bool) -> int:
    """Tell of a job that is done, and remove its lease; the exit code."""
    result = job.result or {}
    facts = {**job.info(), **result, **tracking.names}
    if not keep_lease:
        try:
            await tracking.remove()
        except (Error, OSError) as e:
            out.warn(f"the copy is done, but its lease could not be removed: {explained(e)}")
    text = (
        f"copied {format_size(result.get('bytes', 0))} in {result.get('seconds')} s"
        f" ({format_rate(result.get('rate', 0))}; {result.get('path_taken')})"
    )
    out.done(facts, text)
    return exits.OK


async def ended(tracking: Tracked, job: Ended, out: Output, interrupt: Interrupt) -> int:
    """Tell of a job that failed or was aborted, and what its lease says; the exit code."""
    told, text = await tracking.story()
    facts: dict[str, Any] = {**tracking.names, "job": job.info(), **told}
    aborted = job.status is Status.ABORTED and not _storage_lost(job, interrupt)
    error = job.error or ActionStopped()
    if out.json:
        out.error(ActionStopped() if aborted else error, facts)
    else:
        out.warn(story(job, error, aborted=aborted))
        out.warn(text)
    return exits.ABORTED if aborted else exits.after_job(job.error)


def _storage_lost(job: Ended, interrupt: Interrupt) -> bool:
    """Was it the sanlock daemon that stopped the job? It sends SIGTERM to all jobs of a host that
    has lost the storage of its leases: nobody has aborted them. Source: sanlock(8)."""
    storage = isinstance(job.error, (LeaseLost, SanlockLVBError))
    return storage and interrupt.by == {signal.SIGTERM}


def story(job: Ended, error: Exception, *, aborted: bool) -> str:
    if not aborted:
        return f"job {job.id} failed: {explained(error)}"
    cleanup = f"; while it stopped: {explained(error)}" if job.error else ""
    return f"job {job.id} was aborted{cleanup}"
