import os
from pathlib import Path

import pytest

from processes.notify import Notifier
from tests.agent_service import Manager, agent_folder


def test_what_is_told_arrives() -> None:
    with agent_folder() as folder, Manager(folder) as manager:
        notifier = Notifier.of({"NOTIFY_SOCKET": manager.address})
        notifier.ready("2 jobs known")
        assert manager.until("READY=1", 1.0) == "READY=1\nSTATUS=2 jobs known"
        notifier.stopping("Stopping; copies go on")
        manager.until("STOPPING=1", 1.0)


def test_an_abstract_address_is_one() -> None:
    assert Notifier.of({"NOTIFY_SOCKET": "@/x"}).address == "\0/x"


def test_without_a_manager_or_with_one_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    Notifier.of({}).ready("")
    Notifier(str(tmp_path / "gone")).ready("")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_obeyed_when_it_is_for_us(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert Notifier.of(environment).watchdog == seconds
