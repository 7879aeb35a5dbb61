"""tgt-adapter: volumes as logical units of the tgtd of this machine, over sparse files.

Driver options: {"adapter": "tgt", "path": "/absolute/folder", "portal": "10.0.0.1:3260"}, and as
you like "socket": the control socket of tgtd (TGT_IPC_SOCKET), "iqn": the beginning of the names of
targets, and "chap": true, so that each host gets a password of its own.

Each host that a volume is connected for has a target of its own, with logical unit 1 and the same
WWID. So a host is shut out without touching the others; tgtd 1.0.85 also dies when it shows a
target from which one of several CHAP accounts was taken.
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

from engine.adapters import program, sparse_file, waiting
from engine.adapters.connections import Connection, key_of
from engine.adapters.file_volumes import FileVolumes
from processes.tgtadm import LUN, SOCKET, Target, Tgtd, busy, missing, taken
from protocol.errors import BadOutput, BadParameter, ToolFailed, ToolStalled
from protocol.managed import ConnectionInfo, Connector

ATTEMPTS = 20  # to get a number, which others take at the same time
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
        if not self._options.chap:
            return Connection(connector)
        account = sha256(self._name(volume, connector).encode()).hexdigest()[:16]
        return Connection(connector, {"user": account, "password": secrets.token_hex(8)})

    def _is_known(self, host: Connector, connector: Connector) -> bool:
        return host.initiator == connector.initiator

    async def _connected(self, volume: str, connection: Connection) -> ConnectionInfo:
        for one in self._files.connections(volume).all():  # tgtd may have forgotten them, too
            if not one.ending:
                await self._let_in(volume, one)
        return ConnectionInfo("iscsi", self._data(volume, connection))

    def _data(self, volume: str, connection: Connection) -> dict[str, Any]:
        facts = connection.facts
        name = self._name(volume, connection.connector)
        data = {"target_discovered": False, "target_portal": self._options.portal}
        data |= {"target_iqn": name, "target_lun": LUN, "volume_id": volume}
        data |= {"discard": True, "access_mode": "rw", "encrypted": False}
        if facts:
            data |= {"auth_method": "CHAP", "auth_username": facts["user"]}
            data |= {"auth_password": facts["password"]}
        return data

    async def _let_in(self, volume: str, connection: Connection) -> None:
        """Make what is missing of its target; the initiator comes last."""
        target = await self._target(self._name(volume, connection.connector))
        initiator = str(connection.connector.initiator)
        if LUN not in target.luns:
            path = str(self._files.disk(volume))
            await self._tgtd.new_unit(target.tid, path, _unit_facts(volume))
        elif initiator not in target.acl:  # a call that died may not have come to that
            await self._tgtd.describe_unit(target.tid, _unit_facts(volume))
        facts = connection.facts
        if facts and facts["user"] not in target.accounts:
            with suppress(ToolFailed):  # a call that died may have left it, not bound to the target
                await self._tgtd.delete_account(facts["user"])
            await self._tgtd.new_account(facts["user"], facts["password"])
            await self._tgtd.bind_account(target.tid, facts["user"])
        if initiator not in target.acl:
            await self._tgtd.bind(target.tid, initiator)

    async def _target(self, name: str) -> Target:
        for _ in range(ATTEMPTS):
            targets = await self._tgtd.targets()
            if name in targets:
                return targets[name]
            used = {one.tid for one in targets.values()}
            free = min(set(range(1, len(used) + 2)) - used)
            try:
                await self._tgtd.new_target(free, name)
            except ToolFailed as e:
                if not taken(e):  # else somebody else took that number: look again
                    raise
        raise BadOutput("tgtadm", "it makes a target that is not there")

    async def _cut(self, volume: str, connection: Connection) -> None:
        await self._remove(self._name(volume, connection.connector))
        if connection.facts:
            with suppress(ToolFailed):  # a call that died may have removed it
                await self._tgtd.delete_account(connection.facts["user"])
        sparse_file.sync(self._files.disk(volume))

    async def _cut_all(self, volume: str) -> None:
        begin = self._begin(volume)
        for name in await self._tgtd.targets():
            if name.startswith(begin):
                await self._remove(name)

    async def _remove(self, name: str) -> None:
        """Mask its initiators first, so that they cannot come back, and then cut them off.

        A session ends with its last command, and until then the target cannot be removed.
        """
        with trio.move_on_after(CUT_TIME):
            while target := (await self._tgtd.targets()).get(name):
                try:
                    await self._removed(target)
                except ToolFailed as e:
                    if not busy(e) and not missing(e):
                        raise
                    await trio.sleep(LOOK)
            return
        raise ToolStalled("tgtd", CUT_TIME)

    async def _removed(self, target: Target) -> None:
        for initiator in target.acl:
            await self._tgtd.unbind(target.tid, initiator)
        for nexus in target.nexuses:
            for connection in nexus.connections:
                await self._tgtd.cut(target.tid, nexus.number, connection)
        if LUN in target.luns:
            await self._tgtd.delete_unit(target.tid)
        await self._tgtd.delete_target(target.tid)

    def _name(self, volume: str, connector: Connector) -> str:
        return f"{self._begin(volume)}{key_of(connector)}"

    def _begin(self, volume: str) -> str:
        """Of the names of the targets of a volume; no id has a dot."""
        if not _ID.fullmatch(volume):
            raise BadParameter("volume", "it becomes a name of iSCSI: a-z, 0-9 and - only")
        return f"{self._options.iqn}:{volume}."


def _unit_facts(volume: str) -> dict[str, str]:
    """Who a unit is, whichever host looks."""
    wwid = sha256(volume.encode()).hexdigest()[:32]
    # "3": what follows is a NAA name, which is what a host makes the name of its device of.
    facts = {"scsi_id": f"3{wwid}", "scsi_sn": wwid[:20], "vendor_id": "LEASEHLD"}
    return facts | {"product_id": "VOLUME", "thin_provisioning": "1"}


def main() -> int:
    return program.main(Options, TgtAdapter, waiting.finished)


if __name__ == "__main__":
    sys.exit(main())
