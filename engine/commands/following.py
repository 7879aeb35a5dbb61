"""Passes on what the poller hears of a job to the command that waits for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from engine.lease_poller import Event, Looked

Heard: TypeAlias = Callable[[Looked], None]


class Following:
    """`tell` is for the pollers of an engine. It belongs to the trio thread."""

    def __init__(self) -> None:
        self._listeners: dict[str, Heard] = {}

    def tell(self, event: Event) -> None:
        if isinstance(event, Looked) and (heard := self._listeners.get(event.watch.job_id)):
            heard(event)

    @contextmanager
    def of(self, job_id: str, heard: Heard) -> Iterator[None]:
        """For the body: each round about the job. heard: neither blocks nor raises."""
        self._listeners[job_id] = heard
        try:
            yield
        finally:
            del self._listeners[job_id]
