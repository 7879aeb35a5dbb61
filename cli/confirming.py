"""A host that says that a copy is done is not believed before its lease or volume says so too."""

from dataclasses import dataclass
from typing import ClassVar

import trio

from cli.job_following import Say, polled
from cli.submission import Submission
from protocol.client import Client
from protocol.errors import Error


@dataclass(eq=False)
class Doubtful(Error):
    """Nobody can say what became of the job: nothing is removed."""

    text: ClassVar[str] = "the host says that job {job_id} is done, but {found}; {look}"
    job_id: str
    found: str
    look: str


async def confirm(made: Submission, say: Say) -> None:
    """Raise Doubtful when nothing but its host says that the job is done.

    A lease that is still held is waited for, as long as an answer may take.
    """
    found = ""
    deadline = trio.current_time() + made.remote.timeout

    async def look(client: Client, moved: set[str]) -> bool:
        nonlocal found
        held, found = await made.tracking.success(client)
        return not held or trio.current_time() >= deadline

    try:
        await polled(made.remote, look, say, met=True)
    except Error as e:
        found = f"what tells of it cannot be read: {e}"
    if found:
        raise Doubtful(made.job_id, found, made.look)
