"""A host and a Ceph cluster that refuses it, or does not answer: told, and nothing is left."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from protocol.errors import ManagedVolumeHelperFailed
from protocol.managed import Connector
from tests.ceph_cluster import CephCluster
from tests.conformance.adapters import TOOLS, CephSite, ceph_site
from tests.managed_host import Host

pytestmark = [pytest.mark.full, pytest.mark.tools(*TOOLS["ceph"])]

HOST1 = Connector("host1")
# A key of another user, in the form that keys have.
WRONG = "AQBHCbtT6APDHhAAD5W00cBchwkQjh3dkKsyPw=="


@pytest.fixture
def site(ceph_cluster: CephCluster, tmp_path: Path) -> Iterator[CephSite]:
    with ceph_site(tmp_path, ceph_cluster) as made:
        assert isinstance(made, CephSite)
        yield made
        assert [one for found in made.traces().values() for one in found] == []


@pytest.fixture
async def host(tmp_path: Path) -> Host:
    return await Host.made(tmp_path / "host")


async def told(site: CephSite, volume: str) -> dict[str, Any]:
    info: dict[str, Any] = msgspec.to_builtins(await site.storage.connect_volume(volume, HOST1))
    return info


@pytest.mark.parametrize("wrong", ["key", "user", "image", "disconnected"])
async def test_wrong_credentials_are_told_and_leave_nothing(
    site: CephSite, host: Host, wrong: str
) -> None:
    volume = site.new_volume()
    await site.storage.create_volume(volume, 1)
    good = await told(site, volume)
    data = good["data"]
    wrongs: dict[str, dict[str, Any]] = {
        "key": {"keyring": f"[client.{data['auth_username']}]\n\tkey = {WRONG}\n"},
        "user": {"auth_username": "nobody"},
        "image": {"name": f"{data['name']}0"},
        "disconnected": {},
    }
    if wrong == "disconnected":
        await site.storage.disconnect_volume(volume, HOST1)
    with trio.fail_after(60), pytest.raises(ManagedVolumeHelperFailed) as caught:
        await host.attach(volume, {**good, "data": {**data, **wrongs[wrong]}})
    assert "cannot be opened" in caught.value.reason
    for secret in (WRONG, data["keyring"].split()[-1]):
        assert secret not in str(caught.value.to_rpc())
    host.nothing_is_left()
    await host.attach(volume, await told(site, volume))
    await host.volumes.detach(volume)
    host.nothing_is_left()
    await site.storage.disconnect_volume(volume, HOST1)
    await site.storage.delete_volume(volume)


async def test_a_cluster_that_does_not_answer_is_told_and_leaves_nothing(
    site: CephSite, host: Host
) -> None:
    volume = site.new_volume()
    await site.storage.create_volume(volume, 1)
    connection = await told(site, volume)
    host.impatient(4.0)
    with site.hung(volume) as silent:
        unheard = {**connection, "data": {**connection["data"], **silent}}
        with trio.fail_after(30), pytest.raises(ManagedVolumeHelperFailed, match="not be opened"):
            await host.attach(volume, unheard)
        host.nothing_is_left()
    host.impatient(120.0)
    await host.attach(volume, connection)
    await host.volumes.detach(volume)
    host.nothing_is_left()
    await site.storage.disconnect_volume(volume, HOST1)
    await site.storage.delete_volume(volume)
