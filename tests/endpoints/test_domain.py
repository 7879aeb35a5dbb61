"""Storage domains with their leases, and which store keeps those."""

import grp
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from endpoints.domain import Sharing, create_domain, lockspace_of, open_store, sharing
from endpoints.volume import create_volume
from leases import ids, lockspace, verbs
from leases.embedded import EmbeddedStore
from leases.sanlock_store import SanlockStore
from protocol.errors import (
    AcquireHostIdFailure,
    BadParameter,
    NotJoined,
    SanlockUnavailable,
    WrongStore,
)
from storage.domain import Domain
from storage.volume_request import Request
from tests.cli.run import ROOT
from tests.sanlock_hosts import IO_TIMEOUT, Hosts

IMG = "66666666-7777-4888-8999-aaaaaaaaaaaa"
VOL = "77777777-8888-4999-8aaa-bbbbbbbbbbbb"
RAW = Request(format="raw", capacity=1 << 20, now=1700000000)


@pytest.fixture
def gid() -> Iterator[int]:
    """The group of the daemon, which files are given to."""
    with suppress(KeyError):
        if os.geteuid() == 0:
            yield grp.getgrnam("sanlock").gr_gid
            return
    pytest.skip("needs root, and the group that the package sanlock makes")


@pytest.fixture
async def shared(hosts: Hosts, tmp_path: Path) -> AsyncIterator[Domain]:
    """A domain of sanlock that host A has joined."""
    made = await create_domain(str(tmp_path), leases=2, store="sanlock", io_timeout=IO_TIMEOUT)
    space = lockspace_of(made)
    await lockspace.join(space, 1, without_watchdog=True)
    yield made
    await lockspace.leave(space)


@pytest.mark.tools("sanlock")
@pytest.mark.parametrize("block_size", [512, 4096])
async def test_a_domain_of_sanlock_is_formatted_before_it_appears(
    hosts: Hosts, tmp_path: Path, block_size: int
) -> None:
    made = await create_domain(
        str(tmp_path), leases=1, block_size=block_size, store="sanlock", io_timeout=3
    )
    space = lockspace_of(made)
    found = ids.lockspace(space.ids, space.geometry)
    assert found is not None
    assert (found.space, found.io_timeout) == (made.id, 3)
    with pytest.raises(WrongStore, match=f"leasehold host join {made.id} --host-id N"):
        await verbs.create(await open_store(made), "l", None, now=0, hardware_id="h")
    with pytest.raises(NotJoined):
        await open_store(made, "sanlock")
    os.unlink(made.xleases)  # pytest keeps folders, and these are large


@pytest.mark.parametrize("seconds", [0, 121])
async def test_an_io_timeout_out_of_range_makes_no_domain(tmp_path: Path, seconds: int) -> None:
    with pytest.raises(BadParameter, match="1 to 120"):
        await create_domain(str(tmp_path / "m"), leases=1, store="sanlock", io_timeout=seconds)
    assert not (tmp_path / "m").exists()


@pytest.mark.tools("sanlock")
async def test_auto_is_sanlock_where_it_has_joined(shared: Domain) -> None:
    assert isinstance(await open_store(shared), SanlockStore)
    assert isinstance(await open_store(shared, "sanlock"), SanlockStore)
    assert isinstance(await open_store(shared, "embedded"), EmbeddedStore)
    assert await sharing(shared) == Sharing("sanlock", joined=True)


@pytest.mark.tools("sanlock")
async def test_auto_is_embedded_beside_a_daemon_that_has_not_joined(
    hosts: Hosts, tmp_path: Path
) -> None:
    made = await create_domain(str(tmp_path), leases=1)
    assert isinstance(await open_store(made), EmbeddedStore)
    assert await sharing(made) == Sharing("embedded", joined=False)
    with pytest.raises(NotJoined) as caught:
        await open_store(made, "sanlock")
    assert caught.value.code == 4011


async def test_without_the_binding_only_sanlock_itself_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sanlock", None)  # its import fails
    made = await create_domain(str(tmp_path), leases=1, store="sanlock")
    assert await sharing(made) == Sharing("sanlock", joined=None)
    assert isinstance(await open_store(made, "embedded"), EmbeddedStore)
    with pytest.raises(SanlockUnavailable, match="install python3-sanlock") as caught:
        await open_store(made, "sanlock")
    assert caught.value.code == 4012


async def test_auto_says_of_a_shared_domain_that_there_is_no_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not that another store is needed. What needs no daemon can be looked at."""
    monkeypatch.setitem(sys.modules, "sanlock", None)
    made = await create_domain(str(tmp_path), leases=1, store="sanlock")
    store = await open_store(made)
    with pytest.raises(SanlockUnavailable):
        await verbs.create(store, "l", None, now=0, hardware_id="h")
    assert await verbs.leases(store) == []


async def test_no_daemon_is_asked_about_a_domain_of_the_embedded_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await create_domain(str(tmp_path), leases=1)
    monkeypatch.delattr("leases.daemon.memberships")
    assert isinstance(await open_store(made), EmbeddedStore)
    assert await sharing(made) == Sharing("embedded", joined=False)


def test_the_binding_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, endpoints.domain; sys.exit('sanlock' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


async def test_a_damaged_lockspace_is_told(tmp_path: Path) -> None:
    made = await create_domain(str(tmp_path), leases=1)
    Path(made.ids).write_bytes(b"x" * 4096)
    with pytest.raises(AcquireHostIdFailure, match="is damaged"):
        await sharing(made)


async def test_the_daemon_can_use_what_root_makes(tmp_path: Path, gid: int) -> None:
    made = await create_domain(str(tmp_path), leases=1, store="sanlock")
    volume = await create_volume(made, IMG, VOL, RAW)
    for path in (made.ids, made.leases, made.xleases, volume.lease):
        found = os.stat(path)
        assert (found.st_gid, found.st_mode & 0o777) == (gid, 0o660), path


@pytest.mark.tools("sanlock")
async def test_the_daemon_can_use_what_is_handed_over_to_it(
    hosts: Hosts, tmp_path: Path, gid: int
) -> None:
    made = await create_domain(str(tmp_path), leases=1)
    volume = await create_volume(made, IMG, VOL, RAW)
    files = (made.ids, made.leases, made.xleases, volume.lease)
    assert gid not in [os.stat(path).st_gid for path in files]
    space = lockspace_of(made)
    await lockspace.join(space, 1, without_watchdog=True, io_timeout=IO_TIMEOUT)
    try:
        assert {os.stat(path).st_gid for path in files} == {gid}
    finally:
        await lockspace.leave(space)
