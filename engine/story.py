"""The story of a judgement: what was asked and found, for people."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

LENGTH = 100  # findings; the oldest are forgotten


@dataclass(frozen=True)
class Finding:
    """host: None: nobody was asked. row: of the table that the answer led to.

    first, last: seconds since the judgement began. times: how often the same was found.
    """

    host: str | None
    answer: str
    row: str
    first: float
    last: float
    times: int = 1

    def __str__(self) -> str:
        return self.text(self.host or "")

    def text(self, called: str) -> str:
        """called: the host, for people."""
        host = f"{called}: " if called else ""
        often = f" ({self.times} times, last at {self.last:.0f} s)" if self.times > 1 else ""
        return f"{self.first:6.0f} s  {host}{self.answer} [{self.row}]{often}"


class Story:
    """The findings in the order in which they were first made; equal ones are one finding."""

    def __init__(self) -> None:
        self._found: dict[tuple[str | None, str, str], Finding] = {}

    def add(self, host: str | None, answer: str, row: str, at: float) -> None:
        """at: seconds since the judgement began."""
        key = host, answer, row
        if before := self._found.get(key):
            self._found[key] = replace(before, last=at, times=before.times + 1)
            return
        if len(self._found) >= LENGTH:
            del self._found[next(iter(self._found))]
        self._found[key] = Finding(host, answer, row, at, at)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._found.values())
