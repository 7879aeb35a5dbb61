"""StorageDomain.*: made where that is allowed, known, joined and left."""

import os
import uuid
from pathlib import Path
from typing import Any

import pytest
import trio

from host.config import Config, Folders, Storage
from leases import verbs as leases
from leases.hold import hold
from protocol.errors import (
    AcquireHostIdFailure,
    BadParameter,
    InvalidDomain,
    StorageDomainAlreadyExists,
    StorageDomainCreationError,
    StorageDomainDoesNotExist,
)
from tests.host.verbs.a_host import SD, AHost, a_host
from tests.sanlock_hosts import IO_TIMEOUT, Hosts
from tests.servers import WAIT


async def test_a_domain_is_made_and_told(host: AHost) -> None:
    await host.domain(block_size=512)
    info = await host.call("StorageDomain.getInfo", storagedomainID=SD)
    assert info["uuid"] == SD
    assert (info["type"], info["class"], info["role"]) == ("LOCALFS", "Data", "Regular")
    assert (info["version"], info["block_size"], info["alignment"]) == (5, 512, 1 << 20)
    assert (info["pool"], info["store"]) == ([], "embedded")
    stats = await host.call("StorageDomain.getStats", storagedomainID=SD)
    assert 0 < stats["diskfree"] < stats["disktotal"]
    known = (await host.call("Host.getCapabilities"))["domains"]
    assert known == {SD: {"host_id": None, "state": "alone"}}


async def test_a_domain_is_made_once(host: AHost) -> None:
    await host.domain()
    with pytest.raises(StorageDomainAlreadyExists):
        await host.domain()


async def test_no_domain_is_made_where_nothing_is(host: AHost) -> None:
    with pytest.raises(StorageDomainDoesNotExist):
        await host.call(
            "StorageDomain.create", storagedomainID=SD, path=str(host.mount / "missing")
        )
    assert not host.mount.exists()


async def test_no_domain_is_made_in_a_file(host: AHost) -> None:
    host.mount.mkdir()
    os.symlink("/proc/self", host.mount / "link")
    with pytest.raises(BadParameter, match="allowed"):
        await host.call("StorageDomain.create", storagedomainID=SD, path=f"{host.mount}/link")


@pytest.mark.parametrize("path", ["/", "/etc", "/tmp/..", "{mnt}/..", "{mnt}/../disks", "{mnt}x"])
async def test_a_path_that_is_not_allowed_is_refused(host: AHost, path: str) -> None:
    host.mount.mkdir()
    place = path.format(mnt=host.mount)
    for method in ("create", "activate", "deactivate"):
        with pytest.raises(BadParameter) as caught:
            await host.call(f"StorageDomain.{method}", storagedomainID=SD, path=place)
        assert caught.value.name == "path"


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"storagedomainID": "x"}, "storagedomainID"),
        ({"path": "relative"}, "path"),
        ({"path": "/x\0y"}, "path"),
        ({"path": "/x\ud800"}, "path"),
        ({"block_size": 1024}, "block_size"),
        ({"store": "other"}, "store"),
        ({"leases": 0}, "leases"),
    ],
)
async def test_a_bad_parameter_is_named(host: AHost, params: dict[str, Any], name: str) -> None:
    with pytest.raises(BadParameter) as caught:
        await host.domain(**params)
    assert caught.value.name == name


async def test_a_file_is_no_mount(host: AHost) -> None:
    host.mount.mkdir()
    (host.mount / "taken").touch()
    with pytest.raises(StorageDomainDoesNotExist):
        await host.domain(path=str(host.mount / "taken"))


async def test_a_mount_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    config = Config(
        folders=Folders(state=str(tmp_path)), storage=Storage(directories=("/proc/sys",))
    )
    async with a_host(tmp_path, config) as host:
        with pytest.raises(StorageDomainCreationError):
            await host.domain(path="/proc/sys")
        with pytest.raises(StorageDomainDoesNotExist):
            await host.call("StorageDomain.getInfo", storagedomainID=SD)


async def test_a_domain_that_is_not_known_is_told(host: AHost) -> None:
    host.mount.mkdir()
    for method in ("getInfo", "getStats", "activate", "deactivate"):
        with pytest.raises(StorageDomainDoesNotExist, match=SD):
            await host.call(f"StorageDomain.{method}", storagedomainID=SD)
    with pytest.raises(StorageDomainDoesNotExist, match=SD):
        await host.call("StorageDomain.activate", storagedomainID=SD, path=str(host.mount))


async def test_a_damaged_domain_is_told(host: AHost) -> None:
    await host.domain()
    (host.mount / SD / "dom_md" / "metadata").write_text("VERSION=1\n")
    with pytest.raises(InvalidDomain):
        await host.call("StorageDomain.getInfo", storagedomainID=SD)


async def test_a_domain_is_known_after_a_restart_of_the_agent(tmp_path: Path) -> None:
    async with a_host(tmp_path) as first:
        await first.domain()
    async with a_host(tmp_path) as second:
        info = await second.call("StorageDomain.getInfo", storagedomainID=SD)
        assert info["path"] == str(second.mount / SD)


async def test_the_domains_of_the_configured_mounts_are_known(tmp_path: Path) -> None:
    async with a_host(tmp_path) as first:
        await first.domain()
    os.rename(tmp_path / "mnt", tmp_path / "moved")
    config = Config(
        folders=Folders(state=str(tmp_path / "other")),
        storage=Storage(mounts=(str(tmp_path / "moved"), "/missing"), directories=()),
    )
    async with a_host(tmp_path, config) as second:
        info = await second.call("StorageDomain.getInfo", storagedomainID=SD)
        assert info["path"] == str(tmp_path / "moved" / SD)
        # The mount itself is allowed, and nothing else.
        place = {"storagedomainID": str(uuid.uuid4()), "path": str(tmp_path / "moved")}
        await second.call("StorageDomain.create", **place, leases=1)
        with pytest.raises(BadParameter):
            await second.call("StorageDomain.create", **{**place, "path": str(tmp_path)})


async def test_a_domain_of_the_embedded_store_is_activated_without_a_host_id(
    tmp_path: Path,
) -> None:
    async with a_host(tmp_path) as first:
        await first.domain()
    (tmp_path / "state" / "agent-domains.json").unlink()
    async with a_host(tmp_path) as host:
        params = {"storagedomainID": SD, "path": str(host.mount)}
        for _ in range(2):
            assert await host.call("StorageDomain.activate", **params) is True
        assert (await host.call("StorageDomain.getInfo", **params))["store"] == "embedded"
        for _ in range(2):
            assert await host.call("StorageDomain.deactivate", **params) is True


@pytest.mark.tools("sanlock")
async def test_a_domain_of_sanlock_wants_a_host_id(hosts: Hosts, host: AHost) -> None:
    await host.domain(store="sanlock")
    with pytest.raises(BadParameter) as caught:
        await host.call("StorageDomain.activate", storagedomainID=SD)
    assert caught.value.name == "host_id"
    with pytest.raises(BadParameter) as caught:
        await host.call("StorageDomain.activate", storagedomainID=SD, host_id=2001)
    assert caught.value.name == "host_id"


@pytest.mark.tools("sanlock")
async def test_one_host_has_one_id_in_a_domain(hosts: Hosts, host: AHost) -> None:
    await host.domain(store="sanlock", io_timeout=IO_TIMEOUT)
    member = {"storagedomainID": SD, "path": str(host.mount)}
    assert await host.call("StorageDomain.activate", **member, host_id=1) is True
    try:
        with pytest.raises(AcquireHostIdFailure):
            await host.call("StorageDomain.activate", **member, host_id=2)
        assert await host.call("StorageDomain.activate", **member) is True
    finally:
        assert await host.call("StorageDomain.deactivate", **member) is True
    assert await host.call("StorageDomain.deactivate", **member) is True


@pytest.mark.tools("sanlock")
async def test_a_domain_is_activated_again_as_the_same_host_until_it_is_deactivated(
    hosts: Hosts, tmp_path: Path
) -> None:
    member = {"storagedomainID": SD}
    async with a_host(tmp_path) as host:
        await host.domain(store="sanlock", io_timeout=IO_TIMEOUT)
        await host.call("StorageDomain.activate", **member, host_id=5)
        known = host.host.domains
        await trio.to_thread.run_sync(_thrown_out, hosts, known.folders[SD])
    async with a_host(tmp_path) as host:
        try:
            await host.call("StorageDomain.activate", **member)
            caps = await host.call("Host.getCapabilities")
            assert caps["domains"] == {SD: {"host_id": 5, "state": "joined"}}
        finally:
            await host.call("StorageDomain.deactivate", **member)
        assert host.host.domains.host_ids == {}
        with pytest.raises(BadParameter) as caught:
            await host.call("StorageDomain.activate", **member)
        assert caught.value.name == "host_id"


def _thrown_out(hosts: Hosts, folder: str) -> None:
    place = f"{SD.encode()!r}, 5, {folder + '/dom_md/ids'!r}"
    assert hosts.a.begin(f"rem_lockspace({place})").wait(WAIT) == 0


@pytest.mark.tools("sanlock")
async def test_a_domain_that_somebody_else_has_joined_is_kept_so(shared: AHost) -> None:
    await shared.host.domains.forget_host_id(SD)
    await shared.call("StorageDomain.activate", storagedomainID=SD)
    assert shared.host.domains.host_ids == {SD: 1}


@pytest.mark.tools("sanlock")
async def test_a_domain_whose_leases_are_held_stays_activated(shared: AHost) -> None:
    job_id = await shared.lease()
    store = await shared.host.store(SD)
    async with hold(store, await leases.info(store, job_id)):
        with pytest.raises(AcquireHostIdFailure):
            await shared.call("StorageDomain.deactivate", storagedomainID=SD)
    assert shared.host.domains.host_ids == {SD: 1}


async def test_a_domain_whose_storage_is_gone_is_not_joined_any_more(host: AHost) -> None:
    await host.domain()
    await host.host.domains.remember(await host.host.domains.load(SD), 1)
    host.mount.rename(host.folder / "gone")
    with pytest.raises(StorageDomainDoesNotExist):
        await host.call("StorageDomain.deactivate", storagedomainID=SD)
    assert host.host.domains.host_ids == {}
