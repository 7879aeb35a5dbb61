"""One command that runs, as its stages see it."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import trio
from sqlalchemy import Connection

from engine.commands.services import Services

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """percent: 0.0 to 100.0. bytes: copied so far, of total_bytes. rate: bytes per second. eta:
    seconds left. None: not known."""

    percent: float | None = None
    bytes: int | None = None
    rate: float | None = None
    total_bytes: int | None = None
    eta: float | None = None


@dataclass
class Run:
    """id: of the command. spec: as its type says. stage: that acts or is undone.

    facts: all that was noted, and the facts of all stages that are done, by name.
    resumed: the stage had begun before: the engine was killed in it, or it is asked again.
    abort_asked: set as soon as somebody wants the command to end. An act that takes long looks at
        it and raises; the runner looks between two stages.
    journalled: writes facts down, for `note`.
    """

    id: str
    type: str
    spec: Any
    services: Services
    user: str
    facts: dict[str, Any] = field(default_factory=dict)
    stage: str = ""
    resumed: bool = False
    abort_asked: trio.Event = field(default_factory=trio.Event)
    progress: Progress = field(default_factory=Progress)
    journalled: Callable[[dict[str, Any]], Awaitable[None]] | None = field(default=None, repr=False)
    _together: list[Callable[[Connection], None]] = field(default_factory=list, repr=False)

    def enter(self, stage: str, *, resumed: bool) -> None:
        """Begin to act, or to undo. How far a job was belongs to the stage that had it copy."""
        self.stage, self.resumed, self.progress = stage, resumed, Progress()

    async def note(self, **facts: Any) -> None:
        """Write facts into the journal now, before they are acted upon: an id that we choose."""
        new = {name: fact for name, fact in facts.items() if self.facts.get(name) != fact}
        if new:
            if self.journalled is not None:
                await self.journalled(new)
            self.facts.update(new)

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await self.services.database.read(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """One transaction of its own, which is on disk when this returns. A kill may come between
        it and "done", so it must bear to be repeated; `together` need not."""
        return await self.services.database.write(work)

    def together(self, work: Callable[[Connection], None]) -> None:
        """Do it in the transaction that journals that this act is done, or this undo."""
        self._together.append(work)

    def taken(self) -> list[Callable[[Connection], None]]:
        """For the runner: what was given to `together`, which is empty from now on."""
        taken, self._together = self._together, []
        return taken

    def report(self, progress: Progress) -> None:
        """How far the job of this command is; neither waits nor fails."""
        self.progress = progress
        told = {**asdict(progress), "stage": self.stage}
        self.services.tell("job.progress", self.id, told)
