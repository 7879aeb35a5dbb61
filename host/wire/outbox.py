"""What waits to be sent to one client: bounded, and sent by one task."""

import math
from collections import deque
from collections.abc import Callable

import trio

from host.wire.limits import Limits
from protocol.stomp import HEARTBEAT

PIECE = 1 << 16  # bytes that are handed to the system at once


class Stalled(Exception):
    """The client has taken nothing for too long."""


class Outbox:
    """frames that wait. account: told of each change of their bytes."""

    def __init__(self, limits: Limits, account: Callable[[int], None]) -> None:
        self._limits = limits
        self._account = account
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._news = trio.Event()
        self._closed = False
        self._interval = math.inf

    @property
    def size(self) -> int:
        """Bytes that the system has not taken yet."""
        return self._size

    @property
    def frames(self) -> int:
        return len(self._frames)

    def fits(self, frame: bytes) -> bool:
        room = self._limits.outbox - self._size
        return len(frame) <= room and len(self._frames) < self._limits.outbox_frames

    def put(self, frame: bytes) -> bool:
        """Queue a frame; False: there is no room, the client reads too slowly."""
        if self._closed:
            return True  # it is going, and gets nothing more
        if not self.fits(frame):
            return False
        self._frames.append(frame)
        self._changed(len(frame))
        self._news.set()
        return True

    def beat(self, interval: float) -> None:
        """Send a heart-beat when nothing else was sent for `interval` seconds."""
        self._interval = interval
        self._news.set()

    def close(self) -> None:
        """Take nothing more; `pump` ends when what waits is sent."""
        self._closed = True
        self._news.set()

    def clear(self) -> None:
        """Forget what waits, and take nothing more."""
        self.close()
        self._frames.clear()
        self._changed(-self._size)

    async def pump(self, stream: trio.abc.SendStream) -> None:
        """Send until it is closed and empty. Raises Stalled, trio.BrokenResourceError."""
        while True:
            if self._frames:
                piece = self._piece()
                await self._send(stream, piece)
                self._changed(-len(piece))
            elif self._closed:
                return
            elif not await self._wait():
                await self._send(stream, HEARTBEAT)

    def _piece(self) -> bytes:
        """The frames that wait, joined up to a size: small ones share a system call."""
        frames = [self._frames.popleft()]
        size = len(frames[0])
        while self._frames and size + len(self._frames[0]) <= PIECE:
            frames.append(self._frames.popleft())
            size += len(frames[-1])
        return b"".join(frames)

    async def _wait(self) -> bool:
        """True when there is something to do; False after the interval of heart-beats."""
        self._news = trio.Event()
        with trio.move_on_after(self._interval):
            await self._news.wait()
        return self._news.is_set()

    async def _send(self, stream: trio.abc.SendStream, data: bytes) -> None:
        for at in range(0, len(data), PIECE):
            with trio.move_on_after(self._limits.stall) as scope:
                await stream.send_all(memoryview(data)[at : at + PIECE])
            if scope.cancelled_caught:
                raise Stalled

    def _changed(self, size: int) -> None:
        self._size += size
        self._account(size)
