"""How a verb ended that returns a task: Task.getStatus, read with care."""

from typing import Any

import msgspec

from protocol.client import HostError, NoAnswer


class TaskStatus(msgspec.Struct, frozen=True):
    """code: 0, or that of the error. error: as protocol.errors.to_rpc gives it."""

    code: int
    message: str = ""
    result: Any = None
    error: dict[str, Any] = {}


def task_result(told: object, host: str, verb: str) -> Any:
    """What the verb made. Raises HostError: its error; NoAnswer: nonsense, so nobody knows."""
    try:
        status = msgspec.convert(told, TaskStatus)
    except (msgspec.ValidationError, RecursionError, UnicodeEncodeError) as e:
        raise NoAnswer(host, 0, f"{verb} has ended, but not how: {e}") from None
    if status.code == 0:
        return status.result
    kind, data = status.error.get("kind"), status.error.get("data")
    raise HostError(
        {
            "code": status.code,
            "kind": kind if isinstance(kind, str) else "",
            "message": status.message,
            "data": data if isinstance(data, dict) else {},
        }
    )
