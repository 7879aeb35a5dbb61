"""Commands of toy stages, which do what they are told, and remember it outside of the engine."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import trio
from sqlalchemy import Connection

from engine.commands.run import Run
from engine.commands.stage import CommandType, Facts, Kept, Stage, Thing
from engine.db import disks, volumes
from engine.db.disks import Disk
from engine.db.volumes import Volume
from tests.engine.commands.rig import ARRAY, Killed

DISK = "33333333-3333-4333-8333-333333333333"


class Spec(msgspec.Struct, frozen=True):
    disk: str = DISK


@dataclass
class Toys:
    """plan: by "act NAME" and "undo NAME", what happens at each call: an exception, "killed before"
    or "killed after", "fails late", a function of the run, an event that is set before it waits for
    ever; else it does its work. order: the same, for whatever comes next.

    did: all calls. there: what was made and not undone. resumed: the stages that were told so.
    """

    plan: dict[str, list[Any]] = field(default_factory=dict)
    order: list[Any] = field(default_factory=list)
    did: list[str] = field(default_factory=list)
    there: set[str] = field(default_factory=set)
    resumed: list[str] = field(default_factory=list)

    def fails(self, what: str, *how: Any) -> None:
        self.plan.setdefault(what, []).extend(how)

    def stage(self, name: str, *, undo: bool = True, **more: Any) -> Stage:
        """What it makes is also a row of a volume, which may be kept."""
        return Stage(
            name,
            partial(self._act, name=name),
            partial(self._undo, name=name) if undo else None,
            kept=lambda run: [Kept(Thing.VOLUME, f"{name} of {run.id}", ARRAY)],
            **more,
        )

    def type(self, *stages: Stage) -> dict[str, CommandType]:
        kind = CommandType("toy", Spec, stages, self._begin, self._withdraw)
        return {"toy": kind}

    def _begin(self, c: Connection, spec: Spec, command: str) -> None:
        if disks.find(c, spec.disk) is None:
            add_disk(c, spec.disk)
        disks.lock(c, spec.disk, command)

    def _withdraw(self, c: Connection, run: Run) -> None:
        disks.change(c, run.spec.disk, description="withdrawn")

    async def _act(self, run: Run, name: str) -> Facts:
        self.resumed += [name] if run.resumed else []
        volume = f"{name} of {run.id}"
        run.together(lambda c: add_volume(c, volume))
        await self._do(run, f"act {name}", lambda: self.there.add(name))
        return {f"made {name}": True}

    async def _undo(self, run: Run, name: str) -> None:
        await self._do(run, f"undo {name}", lambda: self.there.discard(name))

    async def _do(self, run: Run, what: str, work: Callable[[], None]) -> None:
        self.did.append(what)
        plan = self.plan.get(what) or self.order
        fate = plan.pop(0) if plan else None
        if isinstance(fate, Exception):
            raise fate
        if callable(fate):
            fate(run)
        if isinstance(fate, trio.Event):
            fate.set()
            await trio.sleep_forever()
        if fate == "killed before":
            raise Killed
        work()
        if fate == "killed after":
            raise Killed
        if fate == "fails late":
            raise OSError("late")


def add_disk(c: Connection, id: str) -> None:
    disk = Disk(
        id=id,
        name="disk",
        description="",
        size=1 << 30,
        domain=ARRAY,
        kind="managed",
        format="raw",
        sparse=True,
        volume=f"{id}v",
        image=None,
        state="ok",
        locked_by=None,
        created=0.0,
    )
    disks.add(c, disk)
    volumes.add(c, Volume(f"{id}v", id, ARRAY, None, None, 1 << 30, "raw", "ok", None))


def add_volume(c: Connection, id: str) -> None:
    """Twice is an error: what goes with "done" is done once."""
    volumes.add(c, Volume(id, None, ARRAY, None, None, 1 << 30, "raw", "ok", None))
