"""Progress: how far a job has come, as facts that never run backwards."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

WHOLE = 100.0
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Progress:
    """One report of the work; None means "not known", which keeps what was known of the amounts.

    percent: 0.0 to 100.0. bytes, total_bytes: what was copied, what there is to copy.
    rate: bytes per second. eta: seconds left. stage: what is being done, for people
    ("waiting for lock", "copying", "flushing"); empty keeps the last one. stage_percent: 0.0 to
    100.0 of that stage alone.
    """

    percent: float | None = None
    bytes: int | None = None
    total_bytes: int | None = None
    rate: float | None = None
    eta: float | None = None
    stage: str = ""
    stage_percent: float | None = None

    def followed_by(self, new: "Progress") -> "Progress":
        """What is known after `new` was reported: percent and bytes grow only.

        A measurement that fell (or is not a number) is the error of a meter, not of the copy: the
        larger figure stays and nothing is raised. Rate and eta are of the moment: the last counts.
        """
        return replace(
            new,
            percent=_grown(self.percent, _within(new.percent)),
            bytes=_grown(self.bytes, new.bytes),
            total_bytes=self.total_bytes if new.total_bytes is None else new.total_bytes,
            stage=new.stage or self.stage,
        )


Report = Callable[[Progress], None]


def _within(percent: float | None) -> float | None:
    if percent is None or math.isnan(percent):
        return None
    return min(max(percent, 0.0), WHOLE)


def _grown(old: Number | None, new: Number | None) -> Number | None:
    if old is None or new is None:
        return old if new is None else new
    return max(old, new)
