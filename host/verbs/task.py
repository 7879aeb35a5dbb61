"""Task.*: how the verbs ended that return the id of a task."""

from typing import Any
from uuid import UUID

from host.tasks import Task
from host.this_host import ThisHost
from host.verbs.verb import Params, Verb
from protocol.errors import UnknownTask


class TaskId(Params, frozen=True):
    taskID: UUID


async def get_status(host: ThisHost, params: TaskId, flow_id: str) -> dict[str, Any]:
    """Tell how a task ended."""
    return status_object(host.tasks.get(str(params.taskID)))


async def get_info(host: ThisHost, params: TaskId, flow_id: str) -> dict[str, Any]:
    """Tell what a task was to do."""
    task = host.tasks.get(str(params.taskID))
    return {"id": task.id, "verb": task.verb}


async def clear(host: ThisHost, params: TaskId, flow_id: str) -> None:
    """Forget a task."""
    host.tasks.clear(str(params.taskID))


def status_object(task: Task) -> dict[str, Any]:
    """cleanSuccess: it failed, and left nothing half done."""
    status: dict[str, Any] = {"taskID": task.id, "taskState": "finished"}
    if task.error is None:
        return {
            **status,
            "taskResult": "success",
            "code": 0,
            "message": "done",
            "result": task.result,
        }
    error = task.error
    return {
        **status,
        "taskResult": "cleanSuccess",
        "code": error["code"],
        "message": error["message"],
        "error": error,
    }


VERBS = (
    Verb(
        "Task.getStatus",
        TaskId,
        get_status,
        "taskID, taskState (always `finished`), taskResult (`success`, or `cleanSuccess` for an"
        " error that left nothing half done), code (0 or that of the error), message, and result"
        " (what the verb made) or error (code, kind, message, data)",
        reads=True,
        errors=(UnknownTask,),
        differs="`result` and `error` are ours; a task has always finished",
    ),
    Verb(
        "Task.getInfo", TaskId, get_info, "id, verb", reads=True, errors=(UnknownTask,), differs=""
    ),
    Verb("Task.clear", TaskId, clear, "true", errors=(UnknownTask,), differs=""),
)
