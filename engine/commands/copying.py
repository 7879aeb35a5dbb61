"""The job of a copy: given to its host, followed, judged; its verdict is written down and final.

A verdict stands in the journal before anything is done because of it. Whoever is resumed afterwards
finds it there and asks nobody.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import trio
from sqlalchemy import Connection, update

from engine.commands import storable, verdicts
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
    EngineBusy,
    JobNotActive,
    NoSuchJob,
    NoSuchObject,
)

log = logging.getLogger(__name__)

ASK_AGAIN = "look into the log of the engine, which has a fault here, then resolve again"
_LARGEST = (1 << 63) - 1  # of a number that the database takes


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
        except NoSuchObject:  # it was removed, and was asked nothing now
            if none:
                raise
            return
        except ConnectionLost as e:
            none = False
            log.info("host %s gave no answer about job %s: %s", host, run.spec.job, e)
        except Exception:  # whatever its answer was: it has got the call
            none = False
            log.exception("host %s was given job %s, perhaps", host, run.spec.job)
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
    # What hosts have said of themselves is in it, and a verdict has to be written down.
    record = storable.data(verdicts.recorded(verdict, run.services.fleet.views()))
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
    """Judge the job; when the command is to be aborted, ask its host to stop it meanwhile.

    Raises EngineBusy (4408): nothing can be written down any more.
    """
    services = run.services
    one = watch(ends.target, run.spec.job, run.facts["host"], lease_of(run))
    found: Verdict | Exception | None = None
    async with trio.open_nursery() as nursery:

        async def beside(work: Callable[[Run], Awaitable[None]]) -> None:
            """Whatever becomes of it, the judgement goes on."""
            nonlocal found
            try:
                await work(run)
            except EngineBusy as e:
                found = e
                nursery.cancel_scope.cancel()
            except Exception:
                log.exception("command %s: its job is judged, and goes on", run.id)

        nursery.start_soon(beside, _abort_when_asked)
        nursery.start_soon(beside, _write_progress)
        with services.following.of(run.spec.job, partial(_heard, run)):
            try:
                if isinstance(one, Watch):
                    found = await services.poller.judge(one)
                else:
                    found = await services.volumes.judge(one)
            except Exception as e:  # raised below, without the group that a nursery makes
                found = e
        nursery.cancel_scope.cancel()
    if isinstance(found, EngineBusy):
        raise found
    if isinstance(found, Exception):
        await trio.lowlevel.checkpoint_if_cancelled()  # the engine stops, and the poller with it
        log.error("command %s: its job could not be judged", run.id, exc_info=found)
        return _unjudged(found)
    assert found is not None
    return found


def _unjudged(fault: Exception) -> Verdict:
    """A judgement that fails tells nothing of the job: it may be writing."""
    return Verdict(
        End.UNRESOLVED,
        row="",
        reason=f"the judgement itself failed: {type(fault).__name__}",
        fenced=False,
        cut_off=False,
        disagree=False,
        cause=None,
        action=ASK_AGAIN,
        error=None,
        story=(),
    )


# --- how far it is ------------------------------------------------------------------------------


def _heard(run: Run, looked: Looked) -> None:
    info = looked.info
    percent = _number(info.get("progress"), 100.0)
    if percent is None:
        return
    rate, eta = (_number(info.get(name)) for name in ("rate", "eta"))
    copied, total = (_whole(info.get(name)) for name in ("bytes", "total_bytes"))
    run.report(Progress(percent, copied, rate, total, eta))


def _number(said: object, most: float = _LARGEST) -> float | None:
    """What a host tells as a number, if it can be one: not below 0, above `most`, NaN, a bool."""
    if isinstance(said, bool) or not isinstance(said, int | float):
        return None
    return float(said) if 0 <= said <= most else None  # of NaN no comparison is true


def _whole(said: object) -> int | None:
    """Likewise, a whole number that fits into a row."""
    if _number(said) is None or not isinstance(said, int | float):
        return None
    return int(said) if said == int(said) else None


async def _write_progress(run: Run) -> None:
    """For those who look later; what is told now is told by Run.report. Raises EngineBusy."""
    written, told = run.progress, False
    while True:
        await trio.sleep(run.services.times.progress)
        now = run.progress
        if now == written:
            continue
        try:
            await run.write(partial(_report, job=run.spec.job, now=now))
        except EngineBusy:
            raise
        except DatabaseGone:
            continue
        except Exception as e:
            if not told:
                log.exception("command %s: its progress is not written down: %s", run.id, e)
            told = True
        written = now


def _report(c: Connection, job: str, now: Progress) -> None:
    jobs.report(c, job, progress=now.percent, bytes=now.bytes, rate=now.rate)


# --- aborted ------------------------------------------------------------------------------------


async def _abort_when_asked(run: Run) -> None:
    """A host that is silent is asked until it answers; what became of the job says its lease."""
    await run.abort_asked.wait()
    while not await _aborted(run, run.facts["host"]):  # noqa: ASYNC110 - it asks a host
        await trio.sleep(run.services.copies.pause)


async def _aborted(run: Run, host: str) -> bool:
    """Has the host been told, or is there nothing to abort?"""
    try:
        await run.services.fleet.call(host, "Job.abort", {"job_id": run.spec.job})
    except HostError as e:
        log.info("host %s was asked to abort job %s: %s", host, run.spec.job, e)
        return e.number in (NoSuchJob.code, JobNotActive.code)
    except SILENCE as e:
        log.info("host %s cannot be asked to abort job %s: %s", host, run.spec.job, e)
        return False
    except Exception as e:  # it may answer anything; the abort is not over because of that
        log.warning("host %s was asked to abort job %s: %r", host, run.spec.job, e)
        return False
    return True
