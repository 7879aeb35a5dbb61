"""What agent and worker say to each other: one JSON object a line, over the socket of the job.

They may be of different versions: fields that one does not know are skipped.
"""

from collections import deque
from typing import Literal

import msgspec
import trio

from host.folder import Ending
from jobs.progress import Progress

LINE_LIMIT = 1 << 20  # bytes; an ending with its result is far below
CHUNK = 1 << 14


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the job, told by the worker whenever it changed; the last has the ending."""

    status: str
    progress: Progress
    ending: Ending | None = None


class Order(msgspec.Struct, frozen=True):
    """What the agent wants of the worker."""

    do: Literal["abort"]


def line(message: State | Order) -> bytes:
    return msgspec.json.encode(message) + b"\n"


class Lines:
    """The lines that come, until the other end is gone. ValueError: one that is too long."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._whole: deque[bytes] = deque()
        self._rest = b""

    def __aiter__(self) -> "Lines":
        return self

    async def __anext__(self) -> bytes:
        while not self._whole:
            try:
                chunk = await self._stream.receive_some(CHUNK)
            except trio.BrokenResourceError:
                raise StopAsyncIteration from None
            if not chunk:
                raise StopAsyncIteration
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            self._whole.extend(whole)
            if len(self._rest) > LINE_LIMIT:
                raise ValueError(f"a line of more than {LINE_LIMIT} bytes")
        return self._whole.popleft()
