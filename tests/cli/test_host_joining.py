"""A joining that ended well is told so, whatever is asked at that moment."""

from typing import Any

import pytest
import trio

from cli import joining, known
from cli.output import Output
from leases import lockspace
from leases.lockspace import Lockspace, Member

SD_ID = "11111111-2222-4333-8444-555555555555"


async def test_a_stop_that_comes_when_it_has_joined_comes_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the command would say that it was stopped, and the host would be in all the same."""
    member = Member(1, "a", 1, 10)

    async def opened(sd_id: str) -> None:
        """Which domain does not matter."""

    with trio.CancelScope() as stop:

        async def join(space: Lockspace, host_id: int, **options: Any) -> Member:
            await trio.lowlevel.checkpoint()
            stop.cancel()
            return member

        monkeypatch.setattr(known, "opened", opened)
        monkeypatch.setattr(joining, "lockspace_of", lambda domain: None)
        monkeypatch.setattr(lockspace, "join", join)
        made = await joining.joined(SD_ID, 1, Output(quiet=True), without_watchdog=True)
        assert made is member
    assert stop.cancel_called
    assert not stop.cancelled_caught
