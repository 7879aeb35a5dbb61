"""Takes one command to its end, step by step, as its stages and its journal say."""

import logging

import trio

from engine.commands import dying
from engine.commands.journal import Journal
from engine.commands.next_step import (
    ABORTED,
    RESTS_ON,
    Act,
    Did,
    End,
    Entry,
    Keep,
    Step,
    Turn,
    Undo,
    next_step,
)
from engine.commands.run import Run
from engine.commands.stage import CommandType, NoVerdict, Stage
from engine.commands.states import State
from engine.commands.undoing import GivenUp, tried
from protocol.errors import ActionStopped, DatabaseGone, EngineBusy, to_rpc

log = logging.getLogger(__name__)


class Runner:
    """Cancelled, it stops where it is: the journal says how it goes on."""

    def __init__(self, kind: CommandType, run: Run, journal: Journal) -> None:
        self._kind = kind
        self._run = run
        self._journal = journal

    async def run(self) -> State:
        """The state in which it has ended, or is unresolved."""
        while True:
            step = self._next()
            if isinstance(step, End):
                state = State(step.outcome)
                await self._journal.end(self._kind, self._run, state)
                return state
            await self._do(step)

    def _next(self) -> Step:
        abort = self._run.abort_asked.is_set()
        return next_step(self._kind.stages, self._journal.entries, abort=abort)

    async def _do(self, step: Step) -> None:
        match step:
            case Act(stage):
                await self._begin(stage, resumed=step.resumed)
                await (self._clean(stage) if step.cleaning else self._act(stage))
            case Turn(stage):
                await self._turn(stage, to_rpc(ActionStopped()))
            case Undo(stage):
                await self._undo(stage)
            case Keep(stage, because):
                reason = f"{because} could not be ended, and it rests on {stage.name}"
                await self._keep(stage, reason, **{RESTS_ON: because})

    async def _begin(self, stage: Stage, *, resumed: bool) -> None:
        self._run.enter(stage.name, resumed=resumed)
        if not resumed:
            await self._journal.write(Entry(stage.name, Did.BEGIN))

    async def _act(self, stage: Stage) -> None:
        run = self._run
        while True:
            try:
                return await self._acted(stage)
            except DatabaseGone as e:
                log.warning("command %s waits: %s", run.id, e)
                await trio.sleep(run.services.times.database)
                run.resumed = True
            except EngineBusy:
                raise
            except NoVerdict as e:
                return await self._unresolved(stage, e)
            except Exception as e:
                # What fails because the engine stops goes on when it starts again.
                await trio.lowlevel.checkpoint_if_cancelled()
                log.warning("command %s: %s failed: %s", run.id, stage.name, e, exc_info=True)
                return await self._turn(stage, to_rpc(e))

    async def _acted(self, stage: Stage) -> None:
        name, run = self._kind.name, self._run
        run.taken()
        dying.reached(name, stage.name, dying.BEFORE)
        facts = dict(await stage.act(run) or {})
        dying.reached(name, stage.name, dying.AFTER)
        await self._ended(stage, Entry(stage.name, Did.DONE, facts))
        run.facts.update(facts)

    async def _turn(self, stage: Stage, error: dict[str, object]) -> None:
        data = {"error": error, ABORTED: self._run.abort_asked.is_set()}
        await self._journal.write(Entry(stage.name, Did.FAILED, data), state=State.UNDOING)

    async def _unresolved(self, stage: Stage, e: NoVerdict) -> None:
        log.warning("command %s is unresolved: %s", self._run.id, e.reason)
        await self._keep(stage, e.reason, e.action, verdict=dict(e.verdict or {}))

    async def _clean(self, stage: Stage) -> None:
        try:
            await tried(lambda: self._acted(stage), self._run)
        except GivenUp as e:
            await self._keep(stage, e.reason, e.action)

    async def _undo(self, stage: Stage) -> None:
        run = self._run
        run.enter(stage.name, resumed=True)
        if self._journal.last(stage.name) is not Did.UNDO:
            await self._journal.write(Entry(stage.name, Did.UNDO))
        try:
            await tried(lambda: self._undone(stage), run)
        except GivenUp as e:
            await self._keep(stage, e.reason, e.action)

    async def _undone(self, stage: Stage) -> None:
        assert stage.undo is not None
        name, run = self._kind.name, self._run
        run.taken()
        dying.reached(name, stage.name, dying.UNDO_BEFORE)
        await stage.undo(run)
        dying.reached(name, stage.name, dying.UNDO_AFTER)
        await self._ended(stage, Entry(stage.name, Did.UNDONE))

    async def _ended(self, stage: Stage, entry: Entry) -> None:
        """Done or undone: what was kept of it, is kept no more."""
        run = self._run
        await self._journal.write(entry, also=run.taken(), freed=stage.kept(run))

    async def _keep(self, stage: Stage, reason: str, action: str = "", **more: object) -> None:
        entry = Entry(stage.name, Did.KEPT, {"reason": reason, "action": action, **more})
        await self._journal.write(entry, kept=stage.kept(self._run))
