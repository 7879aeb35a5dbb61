"""The one thing that must never be: a free lease beside a process that can write."""

from dataclasses import dataclass, field

import trio

from tests.faults.command import Command
from tests.faults.roads import Ends


@dataclass
class Watch:
    """Looks all the time for the one thing that must never be: a free lease beside a writer."""

    command: Command
    ends: Ends
    job_id: str
    looks: int = 0
    owned: int = 0
    violations: list[str] = field(default_factory=list)

    async def run(self) -> None:
        while True:
            before = self.ends.writing(self.command)
            status = await self.command.status(self.job_id)
            # A writer from before that still is one wrote while the status was read.
            after = self.ends.writing(self.command)
            free = status is None or not status.owners
            if free and before & after:
                self.violations.append(f"{before & after} beside {status}")
            self.looks += 1
            self.owned += not free
            await trio.lowlevel.checkpoint()
