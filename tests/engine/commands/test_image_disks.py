"""Disks of data domains, made and removed through a real agent."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from engine.commands.specs import AddDisk, ExtendDisk, RemoveDisk
from engine.commands.table import TYPES
from engine.db import commands, disks, domains
from processes.lvm_report import LogicalVolume
from protocol.client import connected
from protocol.errors import NotSupported, UnsupportedOperation
from protocol.managed import GIB
from tests.agent_service import Service, agent_folder, service
from tests.engine.commands.rig import Rig, all_commands, dies_at
from tests.engine.commands.test_managed_disks import rows
from tests.faults.command import command
from tests.local_disks import StandIn
from tests.managed import new_id

VM = "dddddddd-eeee-4fff-8000-111111111111"


@dataclass
class Host:
    """One that has the data domain `domain` in the folder `mount`. group: of its local disks."""

    agent: Service
    mount: Path
    domain: str
    group: StandIn

    def volumes(self) -> list[str]:
        return sorted(path.name for path in self.mount.glob("*/images/*/*") if not path.suffix)

    async def create_domain(self) -> None:
        ids = {"storagedomainID": self.domain, "path": str(self.mount)}
        await self.call("StorageDomain.create", **ids, leases=8)

    async def call(self, method: str, **params: Any) -> Any:
        async with connected(self.agent.address) as client:
            return await client.call(method, params)


@pytest.fixture
def host(rig: Rig, tmp_path: Path) -> Iterator[Host]:
    mount = tmp_path / "mount"
    mount.mkdir()
    with command(tmp_path) as home, agent_folder() as short:
        group = StandIn.made(tmp_path)
        settings = {
            "storage.directories": mount,
            "folders.state": home.folder / "state",
            **group.settings,
        }
        with service(home, short, *(f"{key}={value}" for key, value in settings.items())) as agent:
            made = Host(agent, mount, new_id(), group)
            rig.hosts[new_id()] = f"unix:{agent.socket}"
            rig.data.append(made.domain)
            yield made


async def test_a_disk_of_a_data_domain_is_an_image(rig: Rig, host: Host) -> None:
    await host.create_domain()
    async with rig.engine() as engine:
        spec = AddDisk(name="disk", domain=host.domain, size=1000, format="cow")
        row = await engine.run("add_disk", spec)
        assert row.state == "succeeded", row.error
        disk = await engine.read(lambda c: disks.get(c, spec.disk))
        assert (disk.kind, disk.size, disk.image, disk.format) == ("image", 1024, disk.id, "cow")
        assert host.volumes() == [spec.volume]
        with pytest.raises(NotSupported):
            await engine.commands.start(
                "extend_disk", ExtendDisk(disk=disk.id, size=GIB), user="admin"
            )
        assert (await engine.run("remove_disk", RemoveDisk(disk=disk.id))).state == "succeeded"
        assert host.volumes() == []
        assert await rows(engine) == (0, 0, 0)


async def test_a_disk_is_not_removed_while_a_host_has_a_local_copy_of_it(
    rig: Rig, host: Host
) -> None:
    await host.create_domain()
    async with rig.engine() as engine:
        spec = AddDisk(name="disk", domain=host.domain, size=GIB)
        assert (await engine.run("add_disk", spec)).state == "succeeded"
        disk, volume = spec.disk, spec.volume
        host.group.add(LogicalVolume(volume, GIB, frozenset({f"IU_{disk}", f"VM_{VM}"})))
        row = await engine.run("remove_disk", RemoveDisk(disk=disk))
        assert row.state == "failed"
        assert row.error is not None
        assert row.error["code"] == UnsupportedOperation.code
        assert f"has local disk {volume}" in row.error["message"]
        assert "leasehold localdisk remove" in row.error["message"]
        assert (await engine.read(lambda c: disks.get(c, disk))).state == "ok"
        assert host.volumes() == [volume]
        assert await host.call("LocalDisk.remove", vol_id=volume) == [volume]
        row = await engine.run("remove_disk", RemoveDisk(disk=disk))
        assert row.state == "succeeded", row.error


async def test_a_local_copy_that_is_made_while_the_engine_is_away_keeps_the_disk(
    rig: Rig, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.create_domain()
    spec = AddDisk(name="disk", domain=host.domain, size=GIB)
    async with rig.engine() as engine:
        assert (await engine.run("add_disk", spec)).state == "succeeded"
    with dies_at(monkeypatch, "remove_disk:snapshots:before"):
        async with rig.killed() as engine:
            await engine.run("remove_disk", RemoveDisk(disk=spec.disk))
    host.group.add(LogicalVolume(spec.volume, GIB, frozenset({f"IU_{spec.disk}", f"VM_{VM}"})))
    async with rig.engine() as engine:
        row = await engine.ended((await all_commands(engine))[0].id)
        assert row.state == "failed"
        assert row.error is not None
        # Said by the engine: that host would refuse it, too, but another one would not.
        assert f"has local disk {spec.volume}" in row.error["message"]
        assert (await engine.read(lambda c: disks.get(c, spec.disk))).state == "ok"
        assert host.volumes() == [spec.volume]


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "point",
    [
        "add_disk:create:after",
        "add_disk:create:undo-after",
        "remove_disk:delete:after",
        "remove_disk:look:undo-before",
    ],
)
async def test_an_image_that_is_there_is_adopted_after_a_kill(
    rig: Rig, host: Host, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    await host.create_domain()
    spec: Any = AddDisk(name="disk", domain=host.domain, size=GIB)
    name, _, where = point.split(":")
    async with rig.engine() as engine:
        if name == "remove_disk":
            assert (await engine.run("add_disk", spec)).state == "succeeded"
            spec = RemoveDisk(disk=spec.disk)
    first = point if "undo" not in where else f"{name}:{TYPES[name].stages[0].name}:before"
    with dies_at(monkeypatch, first):
        async with rig.killed() as engine:
            await engine.run(name, spec)
    if "undo" in where:
        rig.before = _abort
        with dies_at(monkeypatch, point) as passed:
            async with rig.killed() as engine:
                await engine.ended((await all_commands(engine))[0].id)
        assert passed[-1] == point
    async with rig.engine() as engine:
        row = (await all_commands(engine))[0]
        row = await engine.ended(row.id)
        assert row.state == ("aborted" if "undo" in where else "succeeded"), row.error
        there = name == "remove_disk" if "undo" in where else name == "add_disk"
        assert len(host.volumes()) == (1 if there else 0)
        assert (await rows(engine))[:2] == ((1, 1) if there else (0, 0))


def _abort(c: Connection) -> None:
    for row in commands.in_states(c, ["running"]):
        commands.ask_abort(c, row.id, expected=["running"], at=0.0)


async def test_without_a_host_nothing_was_made(rig: Rig, host: Host) -> None:
    await host.create_domain()
    host.agent.kill()
    async with rig.engine() as engine:
        row = await engine.run("add_disk", AddDisk(name="disk", domain=host.domain, size=GIB))
        assert (row.state, row.error and row.error["kind"]) == ("failed", "NoHostFits")
        name = (await engine.read(lambda c: domains.get(c, host.domain))).name
        assert f"domain {name} ({host.domain})" in str(row.error)
        assert await rows(engine) == (0, 0, 0)
