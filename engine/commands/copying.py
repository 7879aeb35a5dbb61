"""The job of a copy: given to its host, followed, judged; its verdict is written down and final.

A verdict stands in the journal before anything is done because of it. Whoever is resumed afterwards
finds it there and asks nobody.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import trio
from sqlalchemy import Connection, update

from engine.commands import verdicts
from engine.commands.attaching import SILENCE
from engine.commands.ends import Ends, source_message, target_message, watch
from engine.commands.leasing import lease_of
from engine.commands.run import Progress, Run
from engine.commands.stage import NoVerdict
from engine.db import jobs, schema
from engine.judgement import End, Verdict, Watch
from engine.lease_poller import Looked
from protocol.client import HostError
from protocol.errors import (
    ActionStopped,
    CannotConnect,
    ConnectionLost,
    DatabaseGone,
    JobNotActive,
    NoSuchJob,
)

log = logging.getLogger(__name__)


async def copied(run: Run, ends: Ends) -> None:
    """Return when the copy is done.

    Raises NoVerdict: nobody can tell; ActionStopped (443): it was aborted; Reported, CopyFailed
    (4440): it failed; what the host answers to SDM.copy_data, when there is no job.
    """
    verdict = run.facts.get("verdict") or await run.read(partial(_written, id=run.spec.job))
    if verdict is None:
        if not run.facts.get("given"):
            await _begin(run, ends)
            await run.note(given=True)  # who asks again asks what became of it
        verdict = await _judged(run, ends)
    if verdicts.is_done(verdict):
        return
    if run.abort_asked.is_set():
        raise ActionStopped
    raise verdicts.failure(run.spec.job, verdict)


# --- begun --------------------------------------------------------------------------------------


async def _begin(run: Run, ends: Ends) -> None:
    """Give the job to its host. When it returns there may be a job, and a judgement is needed.

    Raises HostError, CannotConnect, ActionStopped: there is none, and there will be none.
    """
    times, host = run.services.copies, run.facts["host"]
    none = not run.resumed  # it is certain that no call has made the job
    for left in reversed(range(times.calls)):
        if run.abort_asked.is_set():
            break
        # A job that may have begun may have written: nobody knows any more what is zero.
        params = _params(run, ends, is_zero=none and run.facts["is_zero"])
        try:
            await run.services.fleet.call(host, "SDM.copy_data", params)
            return
        except HostError as e:
            if none:
                raise
            log.info("host %s was given job %s before, perhaps: %s", host, run.spec.job, e)
            return
        except CannotConnect:
            if none and not left:
                raise
        except ConnectionLost as e:
            none = False
            log.info("host %s gave no answer about job %s: %s", host, run.spec.job, e)
        await trio.sleep(times.pause)
    if none:
        raise ActionStopped


def _params(run: Run, ends: Ends, *, is_zero: bool) -> dict[str, Any]:
    facts, spec = run.facts, run.spec
    target = target_message(
        ends.target,
        facts.get("target_url"),
        lease=lease_of(run),
        sparse=ends.sparse,
        is_zero=is_zero,
    )
    return {
        "job_id": spec.job,
        "source": source_message(ends.source, facts.get("source_url")),
        "destination": target,
        "verify": spec.verify,
        **({} if spec.limit is None else {"limit": spec.limit}),
    }


# --- judged -------------------------------------------------------------------------------------


async def _judged(run: Run, ends: Ends) -> Mapping[str, Any]:
    """The verdict, which is done or failed, in the journal. Raises NoVerdict."""
    verdict = await _verdict(run, ends)
    record = verdicts.recorded(verdict, run.services.fleet.views())
    await run.write(partial(_write, run=run, record=record))
    if verdict.end is End.UNRESOLVED:
        raise NoVerdict(verdict.reason, action=verdict.action, verdict=record)
    await run.note(verdict=record)
    return record


def _write(c: Connection, run: Run, record: Mapping[str, Any]) -> None:
    """The same again is no error."""
    if jobs.get(c, run.spec.job).state != record["end"]:
        jobs.end(c, run.spec.job, record, at=run.services.clock())
    table = schema.commands
    c.execute(update(table).where(table.c.id == run.id).values(verdict=record))


def _written(c: Connection, id: str) -> Mapping[str, Any] | None:
    """The verdict, if there is one that is final."""
    job = jobs.get(c, id)
    return job.verdict if job.state in ("done", "failed") else None


async def _verdict(run: Run, ends: Ends) -> Verdict:
    """Judge the job; when the command is to be aborted, ask its host to stop it meanwhile."""
    services, host = run.services, run.facts["host"]
    one = watch(ends.target, run.spec.job, host, lease_of(run))
    found: Verdict | Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_abort_when_asked, run, host)
        nursery.start_soon(_write_progress, run)
        with services.following.of(run.spec.job, partial(_heard, run)):
            try:
                if isinstance(one, Watch):
                    found = await services.poller.judge(one)
                else:
                    found = await services.volumes.judge(one)
            except Exception as e:  # raised below, without the group that a nursery makes
                found = e
        nursery.cancel_scope.cancel()
    if isinstance(found, Exception):
        raise found
    assert found is not None
    return found


def _heard(run: Run, looked: Looked) -> None:
    info = looked.info
    percent, rate, eta = (_number(info.get(name)) for name in ("progress", "rate", "eta"))
    copied, total = (_number(info.get(name)) for name in ("bytes", "total_bytes"))
    if percent is not None:
        run.report(Progress(percent, _whole(copied), rate, _whole(total), eta))


async def _write_progress(run: Run) -> None:
    """For those who look later; what is told now is told by Run.report."""
    written = run.progress
    while True:
        await trio.sleep(run.services.times.progress)
        now = run.progress
        if now == written:
            continue
        with suppress(DatabaseGone):
            await run.write(
                partial(
                    jobs.report,
                    id=run.spec.job,
                    progress=now.percent,
                    bytes=now.bytes,
                    rate=now.rate,
                )
            )
            written = now


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


async def _abort_when_asked(run: Run, host: str) -> None:
    """A host that is silent is asked until it answers; what became of the job says its lease."""
    await run.abort_asked.wait()
    while True:
        try:
            await run.services.fleet.call(host, "Job.abort", {"job_id": run.spec.job})
            return
        except HostError as e:
            log.info("host %s was asked to abort job %s: %s", host, run.spec.job, e)
            if e.number in (NoSuchJob.code, JobNotActive.code):
                return
        except SILENCE as e:
            log.info("host %s cannot be asked to abort job %s: %s", host, run.spec.job, e)
        await trio.sleep(run.services.copies.pause)
