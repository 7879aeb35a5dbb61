"""An abort of a copy to a volume: that it was none, because the lease is lost, comes out."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from endpoints import tracked_volume
from endpoints.domain import create_domain, open_store
from endpoints.tracked_volume import TrackedVolume
from endpoints.volume import create_volume
from leases.grant import Grant
from protocol.errors import LeaseLost
from storage import volume
from storage.domain import Domain
from storage.volume_request import Request
from tests.servers import WAIT

IMG = "66666666-7777-4888-8999-aaaaaaaaaaaa"
VOL = "11111111-0000-4000-8000-00000000abcd"


@pytest.fixture
async def domain(tmp_path: Path) -> Domain:
    made = await create_domain(str(tmp_path), leases=1)
    await create_volume(made, IMG, VOL, Request(format="raw", capacity=1 << 20, now=1))
    return made


async def aborted(domain: Domain, before: Callable[[], object] = lambda: None) -> bool:
    """Begin a copy to the volume, and abort it; was it only that?"""
    tracked = TrackedVolume(await open_store(domain), domain, (IMG, VOL), 0)
    with trio.fail_after(WAIT), trio.CancelScope() as scope:
        async with tracked.taken_up():
            before()
            scope.cancel()
            await trio.sleep_forever()
    return scope.cancelled_caught


async def test_an_abort_is_one_while_the_lease_is_held(domain: Domain) -> None:
    assert await aborted(domain)
    found = volume.read(domain, IMG, VOL).metadata
    assert (found.legality, found.generation) == ("ILLEGAL", 0)


async def test_a_lease_that_was_lost_is_told(domain: Domain) -> None:
    lease = Path(volume.read(domain, IMG, VOL).lease)
    with pytest.raises(LeaseLost, match="replaced or removed"):
        await aborted(domain, lambda: lease.rename(lease.with_suffix(".away")))


async def test_storage_of_the_lease_that_does_not_answer_is_told(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(tracked_volume, "LOOK_TIME", 0.1)
    try:
        with pytest.raises(LeaseLost, match="does not answer"):
            await aborted(
                domain, lambda: monkeypatch.setattr(Grant, "verify", lambda grant: answers.wait())
            )
    finally:
        answers.set()


async def test_an_error_of_the_copy_is_the_one_that_comes_out(domain: Domain) -> None:
    lease = Path(volume.read(domain, IMG, VOL).lease)
    tracked = TrackedVolume(await open_store(domain), domain, (IMG, VOL), 0)

    async def fails() -> None:
        async with tracked.taken_up():
            lease.rename(lease.with_suffix(".away"))
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await fails()
