"""One figure of the benchmark: some work beside its floor."""

import os
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

HARDWARE = "00000000-0000-4000-8000-000000000000"
Work = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Figure:
    """`work` beside `floor`, `rounds` times each; `limit` is the largest ratio that is allowed.

    goal: of the work, in ms; one that is missed is told, and nothing more. before: gets ready for
    either, and is not timed.
    """

    name: str
    floor_name: str
    work: Work
    floor: Work
    limit: float
    rounds: int
    goal: float | None = None
    before: Work | None = None


async def measured(figure: Figure) -> bool:
    works: list[float] = []
    floors: list[float] = []
    for number in range(figure.rounds):
        for work, times in ((figure.floor, floors), (figure.work, works)):
            if figure.before is not None:
                await figure.before(number)
            began = time.perf_counter()
            await work(number)
            times.append(1000 * (time.perf_counter() - began))
    work_ms, floor_ms = statistics.median(works), statistics.median(floors)
    ratio = work_ms / floor_ms
    held: bool = ratio <= figure.limit
    goal = "" if figure.goal is None else f"   goal {figure.goal:g} ms"
    if figure.goal is not None and work_ms > figure.goal:
        goal += " MISSED"
    print(
        f"{figure.name:39} {work_ms:9.2f} ms   {figure.floor_name:31} {floor_ms:9.2f} ms"
        f"   ratio {ratio:6.2f}, at most {figure.limit:5.2f}  {'ok' if held else 'MISSED'}{goal}",
        flush=True,
    )
    return held


def bare(source: Path, target: Path) -> None:
    """What a script without leasehold would do, with the same flags and a flush that is checked."""
    argv = ["qemu-img", "convert", "-p", "-n", "-t", "none", "-T", "none", "-W", "-m", "8"]
    argv += ["-f", "raw", "-O", "raw", str(source), str(target)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    with target.open("r+b") as file:
        os.fsync(file.fileno())
