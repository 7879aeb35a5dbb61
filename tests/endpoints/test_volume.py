"""A volume and its lease together: what is made can be held."""

import os
from pathlib import Path

import pytest
import trio

from endpoints.domain import create_domain, open_store
from endpoints.volume import create_volume, leased_volume
from leases.hold import hold
from leases.lease import Lease
from protocol.errors import AcquireLockFailure
from storage import volume
from storage.domain import Domain
from storage.volume_request import Request

IMG = "66666666-7777-4888-8999-aaaaaaaaaaaa"
VOL = "11111111-0000-4000-8000-00000000abcd"
RAW = Request(format="raw", capacity=1 << 20, now=1700000000)


async def held(domain: Domain, lease: Lease) -> None:
    """The lease can be held, and by one at a time."""
    store = await open_store(domain)
    async with hold(store, lease):
        with pytest.raises(AcquireLockFailure):
            async with hold(store, lease):
                pass
    async with hold(store, lease):
        pass


@pytest.mark.parametrize("block_size", [512, 4096])
async def test_a_new_volume_has_a_lease_that_can_be_held(tmp_path: Path, block_size: int) -> None:
    domain = await create_domain(str(tmp_path), leases=1, block_size=block_size)
    made = await create_volume(domain, IMG.upper(), VOL.upper(), RAW)
    lease = await leased_volume(domain, made)
    assert (lease.lease_id, lease.path, lease.offset) == (VOL, f"{made.path}.lease", 0)
    assert os.stat(lease.path).st_size == domain.alignment
    await held(domain, lease)
    os.unlink(domain.xleases)  # pytest keeps folders, and these are large
    os.unlink(lease.path)


@pytest.mark.parametrize("content", [None, b""])
async def test_a_volume_without_a_usable_lease_gets_one(
    tmp_path: Path, content: bytes | None
) -> None:
    domain = await create_domain(str(tmp_path), leases=1)
    made = await create_volume(domain, IMG, VOL, RAW)
    os.unlink(made.lease)
    if content is not None:
        Path(made.lease).write_bytes(content)
    await held(domain, await leased_volume(domain, made))


async def test_a_held_lease_is_not_made_again(tmp_path: Path) -> None:
    domain = await create_domain(str(tmp_path), leases=1)
    made = await create_volume(domain, IMG, VOL, RAW)
    lease = await leased_volume(domain, made)
    async with hold(await open_store(domain), lease) as grant:
        assert await leased_volume(domain, made) == lease
        await grant.check()


async def test_a_volume_whose_lease_cannot_be_written_does_not_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = await create_domain(str(tmp_path), leases=1)

    def broken(*args: object) -> None:
        raise trio.BrokenResourceError

    monkeypatch.setattr("leases.sector.Sectors.fill", broken)
    with pytest.raises(trio.BrokenResourceError):
        await create_volume(domain, IMG, VOL, RAW)
    assert volume.volumes(domain) == []
    assert os.listdir(domain.images) == []
