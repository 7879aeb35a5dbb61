"""tgt-adapter: volumes as logical units of the tgtd of this machine, over sparse files.

Driver options: {"adapter": "tgt", "path": "/absolute/folder", "portal": "10.0.0.1:3260"}, and as
you like "socket": the control socket of tgtd (TGT_IPC_SOCKET), "iqn": the beginning of the names of
targets, and "chap": true, so that each host gets a password of its own.

Each volume is a target with logical unit 1, which lets in the initiators that it is connected for.
tgtd forgets its targets when it ends: connect_volume makes them again.
"""

import re
import secrets
import sys
from contextlib import suppress
from hashlib import sha256
from typing import Any

import msgspec
import trio

from engine.adapters import program, sparse_file
from engine.adapters.connections import Connection, key_of
from engine.adapters.file_volumes import FileVolumes
from processes.tgtadm import LUN, SOCKET, Target, Tgtd, busy, missing, taken
from protocol.errors import BadParameter, ManagedVolumeInUse, ToolFailed, ToolStalled
from protocol.managed import ConnectionInfo, Connector

CUT_TIME = 30.0  # seconds in which the commands that run must end
LOOK = 0.02
IQN = "iqn.2026-01.org.leasehold"
_ID = re.compile(r"[a-z0-9-]+", re.ASCII)


class Options(msgspec.Struct):
    """As above."""

    path: str
    portal: str
    socket: str = SOCKET
    iqn: str = IQN
    chap: bool = False


class TgtAdapter(FileVolumes):
    protocol = "iSCSI"

    def __init__(self, options: Options) -> None:
        super().__init__(options.path)
        self._options = options
        self._tgtd = Tgtd(options.socket)

    def _new_connection(self, volume: str, connector: Connector) -> Connection:
        if not connector.initiator:
            raise BadParameter("connector", "it has no initiator")
        for other in self._files.connections(volume).all():
            if key_of(other.connector) == key_of(connector):
                continue
            if other.connector.initiator == connector.initiator:
                reason = f"{connector.initiator} is the initiator of {other.connector.host}, too"
                raise ManagedVolumeInUse(volume, reason)
        if not self._options.chap:
            return Connection(connector)
        account = sha256(f"{volume} {key_of(connector)}".encode()).hexdigest()[:16]
        return Connection(connector, {"user": account, "password": secrets.token_hex(8)})

    async def _connected(self, volume: str, connection: Connection) -> ConnectionInfo:
        target = await self._target(volume)
        for one in self._files.connections(volume).all():  # tgtd may have forgotten them, too
            if not one.ending:
                await self._let_in(target, one)
        return ConnectionInfo("iscsi", self._data(volume, connection.facts))

    async def _let_in(self, target: Target, connection: Connection) -> None:
        facts = connection.facts
        if facts and facts["user"] not in target.accounts:
            await self._new_account(target, facts)
        initiator = str(connection.connector.initiator)
        if initiator not in target.acl:
            await self._tgtd.bind(target.tid, initiator)

    def _data(self, volume: str, facts: dict[str, Any]) -> dict[str, Any]:
        data = {"target_discovered": False, "target_portal": self._options.portal}
        data |= {"target_iqn": self._name(volume), "target_lun": LUN, "volume_id": volume}
        data |= {"discard": True, "access_mode": "rw", "encrypted": False}
        if facts:
            data |= {"auth_method": "CHAP", "auth_username": facts["user"]}
            data |= {"auth_password": facts["password"]}
        return data

    async def _new_account(self, target: Target, facts: dict[str, Any]) -> None:
        with suppress(ToolFailed):  # a call that died may have left it, with nobody bound to it
            await self._tgtd.delete_account(facts["user"])
        await self._tgtd.new_account(facts["user"], facts["password"])
        await self._tgtd.bind_account(target.tid, facts["user"])

    async def _target(self, volume: str) -> Target:
        """The target of a volume, with its unit; made where it is missing."""
        name = self._name(volume)
        while (target := (targets := await self._tgtd.targets()).get(name)) is None:
            used = {one.tid for one in targets.values()}
            free = min(set(range(1, len(used) + 2)) - used)
            try:
                await self._tgtd.new_target(free, name)
            except ToolFailed as e:
                if not taken(e):  # else somebody else took that number: look again
                    raise
        if LUN not in target.luns:
            await self._new_unit(volume, target.tid)
        return target

    async def _new_unit(self, volume: str, tid: int) -> None:
        wwid = sha256(volume.encode()).hexdigest()[:32]
        # "3": what follows is a NAA name, which is what a host makes the name of its device of.
        facts = {"scsi_id": f"3{wwid}", "scsi_sn": wwid[:20], "vendor_id": "LEASEHLD"}
        facts |= {"product_id": "VOLUME", "thin_provisioning": "1"}
        await self._tgtd.new_unit(tid, str(self._files.disk(volume)), facts)

    async def _cut(self, volume: str, connection: Connection) -> None:
        """Its initiator is masked first, so that it cannot come back, and then cut off."""
        name = self._name(volume)
        target = (await self._tgtd.targets()).get(name)
        if target is not None:
            await self._mask(target, str(connection.connector.initiator))
            await self._cut_off(name, str(connection.connector.initiator))
        if connection.facts:
            with suppress(ToolFailed):
                await self._tgtd.delete_account(connection.facts["user"])
        records = self._files.connections(volume).all()
        if records == [connection]:  # the last one: nothing is left in tgtd
            await self._remove_target(volume)

    async def _cut_all(self, volume: str) -> None:
        name = self._name(volume)
        target = (await self._tgtd.targets()).get(name)
        if target is not None:
            for initiator in target.acl:
                await self._mask(target, initiator)
            await self._cut_off(name, None)
            await self._remove_target(volume)

    async def _mask(self, target: Target, initiator: str) -> None:
        try:
            await self._tgtd.unbind(target.tid, initiator)
        except ToolFailed as e:
            if not missing(e):
                raise

    async def _cut_off(self, name: str, initiator: str | None) -> None:
        """Cut the connections of an initiator, or all; its session ends with its last command."""
        with trio.move_on_after(CUT_TIME):
            while target := (await self._tgtd.targets()).get(name):
                left = [one for one in target.nexuses if initiator in (None, one.initiator)]
                if not left:
                    return
                for nexus in left:
                    for connection in nexus.connections:
                        with suppress(ToolFailed):  # it has just ended
                            await self._tgtd.cut(target.tid, nexus.number, connection)
                await trio.sleep(LOOK)
            return
        raise ToolStalled("tgtd", CUT_TIME)

    async def _remove_target(self, volume: str) -> None:
        with trio.move_on_after(CUT_TIME):
            while target := (await self._tgtd.targets()).get(self._name(volume)):
                try:
                    if LUN in target.luns:
                        await self._tgtd.delete_unit(target.tid)
                    await self._tgtd.delete_target(target.tid)
                except ToolFailed as e:
                    if not busy(e) and not missing(e):
                        raise
                    await trio.sleep(LOOK)
            sparse_file.sync(self._files.disk(volume))
            return
        raise ToolStalled("tgtd", CUT_TIME)

    def _name(self, volume: str) -> str:
        if not _ID.fullmatch(volume):
            raise BadParameter("volume", "it becomes a name of iSCSI: a-z, 0-9 and - only")
        return f"{self._options.iqn}:{volume}"


def main() -> int:
    return program.main(Options, TgtAdapter)


if __name__ == "__main__":
    sys.exit(main())
