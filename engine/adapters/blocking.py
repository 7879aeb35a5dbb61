"""Runs a command of an adapter that only blocks: it awaits nothing, and needs no trio, whose import
takes longer than such a command."""

import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, NoReturn, TypeVar

from protocol.errors import ManagedStorageFailed

_T = TypeVar("_T")


class _Terminated(BaseException):
    """No error of the command, so that it goes through everything to the end."""


def finished(work: Coroutine[Any, Any, _T]) -> _T:
    """What it returns. Raises what it raises; ManagedStorageFailed: SIGTERM came.

    What blocks is interrupted by SIGTERM, and ends its tools first.
    """
    former = signal.signal(signal.SIGTERM, _terminated)
    try:
        work.send(None)
    except StopIteration as e:
        found: _T = e.value
        return found
    except _Terminated:
        raise ManagedStorageFailed("the command was ended by SIGTERM") from None
    finally:
        signal.signal(signal.SIGTERM, former)
        work.close()
    raise RuntimeError("the command waits for something: it needs engine.adapters.waiting")


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated
