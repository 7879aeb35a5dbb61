"""What the engine does with what hosts tell of jobs."""

from typing import Any, cast

import pytest

from engine.events import Bus
from engine.fleet import JobEvent
from engine.lease_poller import ExternalLeasePoller
from engine.whole import _Heard


class Poller:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def hurry(self, host: str) -> None:
        self.told.append(("soon", host))

    def job_ended(self, host: str) -> None:
        self.told.append(("now", host))


@pytest.mark.parametrize(
    ("info", "when"),
    [
        ({"status": "done"}, "now"),
        ({"status": "failed"}, "now"),
        ({"status": "aborted"}, "now"),
        ({"status": "running"}, "soon"),
        ({"status": "aborting"}, "soon"),
        ({"status": ["done"]}, "soon"),
        ({}, "soon"),
    ],
    ids=["done", "failed", "aborted", "running", "aborting", "nonsense", "nothing"],
)
def test_a_host_that_tells_of_a_job_is_asked_at_once_when_it_has_ended(
    info: dict[str, Any], when: str
) -> None:
    poller = Poller()
    heard = _Heard(Bus(), cast(ExternalLeasePoller, poller))
    heard(JobEvent("a", "job", info))
    assert poller.told == [(when, "a")]
