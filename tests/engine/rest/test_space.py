"""However many ask for the space of a domain, one adapter runs at a time, and not often."""

from typing import Any

import trio
import trio.testing

from engine.managed_storage import Stats
from engine.rest.space import LIFE, PATIENCE, Spaces
from protocol.errors import AdapterFailed


class Storage:
    """An adapter that counts. seconds: that it takes."""

    def __init__(self, seconds: float = 0.5, fails: bool = False) -> None:
        self.calls = self.running = self.most = 0
        self.seconds = seconds
        self.fails = fails

    async def of(self, domain: str) -> Any:
        return self

    async def storage_stats(self) -> Stats:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await trio.sleep(self.seconds)
        finally:
            self.running -= 1
        if self.fails:
            raise AdapterFailed("file", "storage_stats", "no")
        return Stats(100, 50)


async def test_a_hundred_at_once_start_one_adapter(autojump_clock: trio.testing.MockClock) -> None:
    spaces, storage = Spaces(), Storage()
    found: list[Stats | None] = []

    async def ask() -> None:
        found.append(await spaces.of("a", storage.of))

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(ask)
    assert found == [Stats(100, 50)] * 100
    assert (storage.calls, storage.most) == (1, 1)
    await trio.sleep(LIFE)
    await ask()
    assert storage.calls == 2
    await spaces.of("b", storage.of)
    assert storage.calls == 3


async def test_an_adapter_that_hangs_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    spaces, storage = Spaces(), Storage(seconds=3600)
    assert await spaces.of("a", storage.of) is None
    assert trio.current_time() >= PATIENCE
    before = trio.current_time()
    assert await spaces.of("a", storage.of) is None
    assert trio.current_time() == before
    assert storage.calls == 1


async def test_an_adapter_that_fails_tells_nothing(autojump_clock: trio.testing.MockClock) -> None:
    spaces, storage = Spaces(), Storage(fails=True)
    for _ in range(3):
        assert await spaces.of("a", storage.of) is None
    assert storage.calls == 1
