"""The hosts that local disks are on: this one, or one with an agent."""

from collections.abc import Collection
from typing import Any, Protocol

import msgspec

from cli.agent import environment
from cli.answers import Amount, Seconds, read
from cli.hardware import hardware_id
from cli.remote import Remote
from host import config_file, local_disk_vms, local_disks
from host.local_disk_request import Backend, Prepared, PrepareRequest, State, Unused
from protocol.client import Client

LVM_TIME = 660.0  # seconds for an agent, whose LVM has ten minutes to remove a thin volume


class Row(msgspec.Struct, frozen=True):
    """A local disk. size: bytes. started: its VM was handed it. job_status: what the lease of the
    job says, or that it is owned. prepared: seconds since the epoch. data_percent: of a thin one.
    """

    vol_id: str
    backend: Backend
    state: State
    size: Amount
    path: str
    img_id: str | None = None
    vm_id: str | None = None
    started: bool = False
    active: bool = False
    open: bool = False
    job_id: str | None = None
    job_status: str | None = None
    generation: int | None = None
    prepared: Seconds | None = None
    data_percent: float | None = None


class Host(Protocol):
    """All raise what the functions of host.local_disks do."""

    async def rows(self) -> list[Row]: ...

    async def remove(self, *, vol_id: str | None, vm_id: str | None, abort: bool) -> list[str]: ...

    async def gc(self, *, dry_run: bool, vms: Collection[str] | None) -> list[Unused]: ...


class Here:
    """This host, as its configuration says, without its agent; both see the same disks, locks and
    leases."""

    async def rows(self) -> list[Row]:
        return msgspec.convert(await local_disks.listed(await self._opened()), list[Row])

    async def remove(self, *, vol_id: str | None, vm_id: str | None, abort: bool) -> list[str]:
        here = await self._opened()
        return await local_disks.remove(here, vol_id=vol_id, vm_id=vm_id, abort=abort)

    async def gc(self, *, dry_run: bool, vms: Collection[str] | None) -> list[Unused]:
        here = await self._opened()
        known = await local_disk_vms.known(here.config) if vms is None else vms
        return await local_disks.gc(here, dry_run=dry_run, vms=known)

    async def _opened(self) -> local_disks.Here:
        config = config_file.load(None, environment())
        return await local_disks.in_foreground(config, await hardware_id())


class There:
    """A host with an agent."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    async def prepare(self, client: Client, request: PrepareRequest) -> Prepared:
        plain = msgspec.to_builtins(request)
        params = {key: value for key, value in plain.items() if key != "flow_id"}
        answer = await self._call(client, "LocalDisk.prepare", params)
        return read(answer, Prepared, self.remote.name)

    async def rows(self) -> list[Row]:
        return read(await self._once("LocalDisk.list", {}), list[Row], self.remote.name)

    async def remove(self, *, vol_id: str | None, vm_id: str | None, abort: bool) -> list[str]:
        params = {"vol_id": vol_id, "vm_id": vm_id, "abort": abort}
        return read(await self._once("LocalDisk.remove", params), list[str], self.remote.name)

    async def gc(self, *, dry_run: bool, vms: Collection[str] | None) -> list[Unused]:
        params = {"dry_run": dry_run, "vms": None if vms is None else list(vms)}
        return read(await self._once("LocalDisk.gc", params), list[Unused], self.remote.name)

    async def _once(self, method: str, params: dict[str, Any]) -> Any:
        async with self.remote.connected() as client:
            return await self._call(client, method, params)

    async def _call(self, client: Client, method: str, params: dict[str, Any]) -> Any:
        time = max(self.remote.timeout, LVM_TIME)
        return await client.call(method, params, timeout=time, flow_id=self.remote.flow_id)
