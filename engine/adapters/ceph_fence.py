"""Cutting clients of a Ceph cluster off from an image: they were let in, and may be writing.

A client is blocklisted by its address, which no other client ever has. Each OSD refuses it from the
map on that says so; so it is over when every OSD has that map.
"""

from collections.abc import Collection
from dataclasses import dataclass

import trio

from processes.ceph import Ceph
from processes.rbd import Rbd
from protocol.errors import ToolStalled

# Of a blocklisting: longer than the tickets live that a removed user still has (three hours).
BLOCKED = 86_400  # seconds
CUT_TIME = 60.0  # seconds until every OSD must know
LOOK = 0.1


@dataclass(frozen=True)
class Fence:
    ceph: Ceph
    rbd: Rbd
    image: str

    async def cut(self, users: Collection[str], *, everybody: bool) -> None:
        """Cut the clients of users off, who are removed already. everybody: whoever has the image
        open, too. Raises ToolStalled: an OSD does not take the news."""
        if addresses := await self._clients(users, everybody=everybody):
            for address in sorted(addresses):
                await self.ceph.block(address, BLOCKED)
            with trio.move_on_after(CUT_TIME):
                while not await self._is_over(addresses):  # noqa: ASYNC110 - nobody tells us
                    await trio.sleep(LOOK)
                return
            raise ToolStalled("ceph", CUT_TIME)

    async def cut_dead(self) -> None:
        """Cut off who has the image open and has no session: a tool that was killed, say, which
        counts as one that has it open for half a minute more."""
        if await self.rbd.watchers(self.image):
            await self.cut((), everybody=False)

    async def _clients(self, users: Collection[str], *, everybody: bool) -> set[str]:
        """Addresses: the sessions of the users, and who holds the image open and is nobody's.

        A client that has just lost its monitor has no session: its user is not known, and then it
        is better cut off too.
        """
        names = {f"client.{user}" for user in users}
        owner = {
            str(session.addrs.addrvec[0]): session.entity_name
            for monitor in await self.ceph.quorum()
            for session in await self.ceph.sessions(monitor.name)
            if session.addrs.addrvec
        }
        found = {address for address, name in owner.items() if name in names}
        open_by = {watcher.address for watcher in await self.rbd.watchers(self.image)}
        open_by |= set(await self.rbd.lockers(self.image))
        return found | {one for one in open_by if everybody or one not in owner}

    async def _is_over(self, addresses: set[str]) -> bool:
        """Whether every OSD has the newest map, and refuses the clients."""
        now = await self.ceph.osds()
        for osd in now.osds:
            if osd.up and await self.ceph.epoch_of(osd.osd) < now.epoch:
                return False
        return not {one.address for one in await self.rbd.watchers(self.image)} & addresses
