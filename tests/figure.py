"""One figure of the benchmark: some work beside its floor."""

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

HARDWARE = "00000000-0000-4000-8000-000000000000"
Work = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Figure:
    """`work` beside `floor`, `rounds` times each; `limit` is the largest ratio that is allowed."""

    name: str
    floor_name: str
    work: Work
    floor: Work
    limit: float
    rounds: int


async def measured(figure: Figure) -> bool:
    works: list[float] = []
    floors: list[float] = []
    for number in range(figure.rounds):
        for work, times in ((figure.floor, floors), (figure.work, works)):
            began = time.perf_counter()
            await work(number)
            times.append(1000 * (time.perf_counter() - began))
    work_ms, floor_ms = statistics.median(works), statistics.median(floors)
    ratio = work_ms / floor_ms
    held: bool = ratio <= figure.limit
    print(
        f"{figure.name:39} {work_ms:9.2f} ms   {figure.floor_name:31} {floor_ms:9.2f} ms"
        f"   ratio {ratio:6.2f}, at most {figure.limit:5.2f}  {'ok' if held else 'MISSED'}",
        flush=True,
    )
    return held
