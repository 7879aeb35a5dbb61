"""How much one client may ask."""

import tracemalloc
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from engine.rest import limits
from engine.rest.limits import Failures, Rate
from engine.rest.refused import Refused
from protocol.errors import TooManyRequests


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_taken_and_then_so_many_a_second() -> None:
    clock = Clock()
    rate = Rate(2.0, 3, clock)
    for _ in range(3):
        rate.take("a")
    with pytest.raises(TooManyRequests) as refused:
        rate.take("a")
    assert refused.value.seconds == pytest.approx(0.5)
    rate.take("b")  # another one's
    clock.now += 0.5
    rate.take("a")
    clock.now += 1000
    for _ in range(3):  # never more than the burst
        rate.take("a")
    with pytest.raises(TooManyRequests):
        rate.take("a")


def test_failures_count_within_the_window_only() -> None:
    clock = Clock()
    failures = Failures(60.0, clock)
    failures.add("a")
    clock.now += 30
    failures.add("a")
    failures.check("a", 3)
    with pytest.raises(TooManyRequests) as refused:
        failures.check("a", 2)
    assert refused.value.seconds == pytest.approx(30.0)
    clock.now += 31
    failures.check("a", 2)
    failures.add("a")
    failures.forget("a")
    failures.check("a", 1)


def test_of_many_clients_the_one_that_was_silent_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "KEYS", 2)
    rate = Rate(1.0, 1, Clock())
    rate.take("a")
    rate.take("b")
    with pytest.raises(TooManyRequests):
        rate.take("a")
    rate.take("c")  # b goes
    with pytest.raises(TooManyRequests):
        rate.take("a")
    rate.take("b")


MIB = 1 << 20


class Body:
    """A request whose body comes in pieces of 1 MiB. left: of them; then it breaks, or ends."""

    def __init__(self, left: int, *, breaks: bool = False) -> None:
        self.left = left
        self.breaks = breaks

    @property
    def request(self) -> Request:
        return Request({"type": "http", "method": "POST", "headers": []}, self.receive)

    async def receive(self) -> dict[str, Any]:
        if not self.left and self.breaks:
            return {"type": "http.disconnect"}
        self.left -= 1
        more = self.left > 0 or self.breaks
        return {"type": "http.request", "body": bytes(MIB), "more_body": more}


async def test_a_body_that_is_too_large_is_taken_but_not_kept() -> None:
    sent = Body(50)
    tracemalloc.start()
    try:
        with pytest.raises(Refused) as refused:
            await limits.body(sent.request, MIB, 30)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (refused.value.status, sent.left) == (413, 0)
    assert peak < 10 * MIB


async def test_a_body_without_end_is_not_taken_for_ever() -> None:
    sent = Body(10_000)
    with pytest.raises(Refused):
        await limits.body(sent.request, MIB, 30)
    assert sent.left > 9000


async def test_a_body_that_fits_is_all_of_it() -> None:
    assert await limits.body(Body(3).request, 3 * MIB, 30) == bytes(3 * MIB)
    with pytest.raises(ClientDisconnect):
        await limits.body(Body(1, breaks=True).request, 3 * MIB, 30)
