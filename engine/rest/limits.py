"""How much one client may ask: requests in a time, failed logins, bytes of a body."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio
from starlette.requests import ClientDisconnect, Request

from engine.rest.refused import Refused
from protocol.errors import BadParameter, TooManyRequests

V = TypeVar("V")
KEYS = 10_000  # of clients that are remembered; the one that was silent for longest is forgotten
DRAINED = 64 << 20  # bytes of a body that is too large which are read and thrown away
DRAIN_SECONDS = 10.0


class _Remembered(Generic[V]):
    """A value for each of the last KEYS keys."""

    def __init__(self, new: Callable[[], V]) -> None:
        self._new = new
        self._values: OrderedDict[str, V] = OrderedDict()

    def __getitem__(self, key: str) -> V:
        if key not in self._values:
            self._values[key] = self._new()
            if len(self._values) > KEYS:
                self._values.popitem(last=False)
        self._values.move_to_end(key)
        return self._values[key]

    def forget(self, key: str) -> None:
        self._values.pop(key, None)


@dataclass
class _Bucket:
    left: float
    at: float


class Rate:
    """So many requests a second for each key, and `burst` at once. Source: token bucket."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets = _Remembered(lambda: _Bucket(burst, clock()))

    def take(self, key: str) -> None:
        """Raises TooManyRequests (4411)."""
        bucket, now = self._buckets[key], self._clock()
        bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.left < 1:
            raise TooManyRequests((1 - bucket.left) / self._rate)
        bucket.left -= 1


class Failures:
    """How often each key failed within the window."""

    def __init__(self, window: float, clock: Callable[[], float]) -> None:
        self._window = window
        self._clock = clock
        self._times: _Remembered[list[float]] = _Remembered(list)

    def check(self, key: str, limit: int) -> None:
        """Raises TooManyRequests (4411): it failed that often."""
        times, now = self._times[key], self._clock()
        times[:] = [at for at in times if at > now - self._window]
        if len(times) >= limit:
            raise TooManyRequests(max(1.0, times[-limit] + self._window - now))

    def add(self, key: str) -> None:
        self._times[key].append(self._clock())

    def forget(self, key: str) -> None:
        self._times.forget(key)


async def body(request: Request, limit: int, seconds: float) -> bytes:
    """All bytes of a request. Raises Refused (413), BadParameter (1000): it did not come in time.

    A client hears of 413 only after it has sent: most read no answer before. So what is too much
    is taken and thrown away, up to a bound.
    """
    kept, more = bytearray(), True
    with trio.move_on_after(seconds) as in_time:
        while more and len(kept) <= limit:
            piece, more = await _piece(request)
            kept += piece
    if in_time.cancelled_caught:
        raise BadParameter("body", f"it did not arrive within {seconds:.0f} s")
    if len(kept) <= limit:
        return bytes(kept)
    with trio.move_on_after(DRAIN_SECONDS):
        left = DRAINED - len(kept)
        kept.clear()
        while more and left > 0:
            piece, more = await _piece(request)
            left -= len(piece)
    raise Refused(413, f"the body is larger than {limit} bytes")


async def _piece(request: Request) -> tuple[bytes, bool]:
    """What has come, and whether more will. Raises ClientDisconnect."""
    message = await request.receive()
    if message["type"] != "http.request":
        raise ClientDisconnect
    return message.get("body", b""), bool(message.get("more_body"))
