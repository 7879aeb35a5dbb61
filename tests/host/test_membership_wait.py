"""A job waits for its host to be in the lockspace, for a time."""

from pathlib import Path

import pytest
import trio

from endpoints.domain import Sharing
from host import membership_wait as module
from host.membership_wait import until_joined
from leases import writers
from storage.domain import Domain
from tests.servers import WAIT
from tests.storage.volumes import new_domain

OUT, IN = Sharing("sanlock", joined=False), Sharing("sanlock", joined=True)


@pytest.fixture
def domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Domain:
    monkeypatch.setattr(module, "LOOK", 0.01)
    return new_domain(tmp_path)


def says(monkeypatch: pytest.MonkeyPatch, *answers: Sharing) -> list[Sharing]:
    """What is asked for the membership; the last answer stays. Those that were not given yet."""
    left = list(answers)

    async def sharing(domain: Domain) -> Sharing:
        return left.pop(0) if len(left) > 1 else left[0]

    monkeypatch.setattr(module, "sharing", sharing)
    return left


async def waited(domain: Domain, seconds: float = 1000) -> int:
    """How often it was told that it is waited."""
    times = 0

    def waiting() -> None:
        nonlocal times
        times += 1

    with trio.fail_after(WAIT):
        await until_joined(domain, seconds, waiting)
    return times


async def test_a_domain_of_the_embedded_store_has_no_lockspace(domain: Domain) -> None:
    assert await waited(domain) == 0


async def test_a_host_that_has_joined_is_not_waited_for(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, IN)
    assert await waited(domain) == 0


async def test_it_is_waited_until_the_host_has_joined(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """joined None: the daemon does not run yet."""
    says(monkeypatch, Sharing("sanlock", joined=None), OUT, OUT, IN)
    assert await waited(domain) == 3


async def test_and_until_the_one_who_joins_is_done(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """Until then no lease can be taken, though the daemon says that the host has joined."""
    says(monkeypatch, IN)
    over: list[int] = []

    async def wait() -> None:
        over.append(await waited(domain))

    with writers.none_left(domain.id) as alone:
        assert alone
        nursery.start_soon(wait)
        await trio.sleep(0.1)
        assert over == []
    with trio.fail_after(WAIT):
        while not over:  # noqa: ASYNC110 - the kernel gives the lock back
            await trio.sleep(0.01)
    with writers.none_left(domain.id) as alone:
        assert alone  # what was looked with is closed


async def test_it_is_not_waited_for_ever(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is told by those who take a lease."""
    says(monkeypatch, OUT)
    assert await waited(domain, seconds=0.1) > 0
