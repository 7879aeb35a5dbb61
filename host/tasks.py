"""Tasks: what clients ask after verbs that by contract return the id of one.

Ours have ended before the verb answers, so a task is nothing but the memory of how.
"""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from protocol.errors import Error, UnknownTask, to_rpc
from protocol.groups import telling

log = structlog.get_logger()

LIMIT = 1000


@dataclass(frozen=True)
class Task:
    """error: as protocol.errors.to_rpc gives it. result: what the verb made."""

    id: str
    verb: str
    error: dict[str, Any] | None = None
    result: Any = None


class Tasks:
    """The last tasks. Not thread safe: it belongs to the trio thread."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._tasks: dict[str, Task] = {}

    async def finished(self, verb: str, work: Callable[[], Awaitable[Any]]) -> str:
        """Do the work to its end; the id of the task that tells how it ended."""
        task_id = str(uuid.uuid4())
        try:
            task = Task(task_id, verb, result=await work())
        except Exception as e:
            error = telling(e)
            if not isinstance(error, Error):
                log.exception("a task failed unexpectedly", task=task_id)
            task = Task(task_id, verb, error=to_rpc(error))
        self._tasks[task_id] = task
        while len(self._tasks) > self._limit:
            del self._tasks[next(iter(self._tasks))]
        return task_id

    def get(self, task_id: str) -> Task:
        """Raises UnknownTask (401)."""
        try:
            return self._tasks[task_id]
        except KeyError:
            raise UnknownTask(task_id) from None

    def clear(self, task_id: str) -> None:
        """Forget it. Raises UnknownTask (401)."""
        self.get(task_id)
        del self._tasks[task_id]

    def all(self) -> list[Task]:
        """The oldest first."""
        return list(self._tasks.values())
