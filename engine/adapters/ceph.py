"""ceph-adapter: volumes as images of a Ceph pool.

Driver options: {"adapter": "ceph"}, and as you like "pool", "conf" (path) or "mon_host", "user"
(cephx, without `client.`), and "keyring" (path) or "key", which is a secret.

Each connection has a cephx user of its own with rights on that one image. Disconnect removes the
user, and blocklists the clients that are in by that name: the only way to end what they write.
Nothing is kept but in the cluster: connections are notes at the image (`rbd image-meta`).
"""

import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from engine.adapters import program, waiting
from engine.adapters.adapter import Adapter, Created, Stats, VolumeInfo
from engine.adapters.ceph_fence import Fence
from engine.adapters.connections import Connection, key_of
from processes.ceph import Access, Ceph
from processes.private_folder import private_folder
from processes.rbd import EBUSY, EEXIST, ENOENT, ENOTEMPTY, Info, Parent, Rbd
from protocol.errors import (
    BadParameter,
    ManagedStorageFailed,
    ManagedVolumeExists,
    ManagedVolumeInUse,
    NoSuchManagedSnapshot,
    NoSuchManagedVolume,
    ToolFailed,
)
from protocol.managed import GIB, ConnectionInfo, Connector

IMAGE = "volume-"  # begins the names of images
DRAFT = "clone."  # begins the names of snapshots that a clone is made through; no id has a dot
NOTE = "leasehold"
ORIGIN = f"{NOTE}.origin"
MAKING = f"{NOTE}-making."  # begins the keys of notes at an origin: what is being made from it


class Options(msgspec.Struct):
    """As above."""

    pool: str = "rbd"
    conf: str = "/etc/ceph/ceph.conf"
    mon_host: str | None = None
    user: str = "admin"
    keyring: str | None = None
    key: str | None = None


def access(options: Options, stack: ExitStack) -> Access:
    """What is secret, or was given in place of a file, is in a private file until the end."""
    conf, keyring = options.conf, options.keyring
    if options.mon_host is not None or options.key is not None:
        folder = Path(stack.enter_context(private_folder()))
        if options.mon_host is not None:
            conf = str(folder / "ceph.conf")
            Path(conf).write_text(f"[global]\nmon_host = {options.mon_host}\n")
        if options.key is not None:
            keyring = str(folder / "keyring")
            Path(keyring).write_text(f"[client.{options.user}]\nkey = {options.key}\n")
    return Access(conf, options.user, keyring)


class CephAdapter(Adapter):
    def __init__(self, pool: str, access: Access) -> None:
        self._pool = pool
        self._ceph = Ceph(access)
        self._rbd = Rbd(access, pool)

    async def create_volume(self, volume: str, gib: int) -> Created:
        info = await self._rbd.info(_image(volume))
        if info is None:
            await self._anew(_image(volume), partial(self._rbd.create, _image(volume), gib))
        elif info.size != gib * GIB:
            raise ManagedVolumeExists(volume, f"it has {info.size // GIB} GiB")
        return Created(info is None)

    async def delete_volume(self, volume: str) -> None:
        if (info := await self._rbd.info(_image(volume))) is None:
            if not await self._cleared(_image(volume)):
                raise NoSuchManagedVolume(volume)
            return
        await self._must_be_idle(volume)
        found = await self._rbd.snapshots(info.name)
        if snapshots := [name for name in found if not name.startswith(DRAFT)]:
            raise ManagedVolumeInUse(volume, f"it has snapshots: {', '.join(snapshots)}")
        for draft in found:  # of clones that died
            await self._rbd.remove_snapshot(info.name, draft)
        try:
            await self._rbd.remove(info.name)
        except ToolFailed as e:
            if e.status in (EBUSY, ENOTEMPTY):
                raise ManagedVolumeInUse(volume, e.detail.strip().splitlines()[-1]) from None
            raise
        if info.parent is not None and info.parent.snapshot == f"{DRAFT}{volume}":
            await self._rbd.remove_snapshot(info.parent.image, info.parent.snapshot)

    async def connect_volume(self, volume: str, connector: Connector) -> ConnectionInfo:
        info = await self._existing(volume)
        connection = (await self._connections(volume)).get(key_of(connector))
        if connection is None:
            # First: who is let in can always be found.
            await self._note(volume, Connection(connector))
        return await self._let_in(volume, info, connector)

    async def _let_in(self, volume: str, info: Info, connector: Connector) -> ConnectionInfo:
        user = _user(volume, key_of(connector))
        key = await self._ceph.key(user, "profile rbd", _rights(self._pool, info))
        monitors = await self._ceph.monitors()
        both = [[one.addr for one in monitor.public_addrs.addrvec] for monitor in monitors]
        portals = [addresses[-1].rpartition(":") for addresses in both]  # v1 stands after v2
        data: dict[str, Any] = {"name": f"{self._pool}/{info.name}", "volume_id": volume}
        data |= {"hosts": [host.strip("[]") for host, _, _ in portals]}
        data |= {"ports": [port for _, _, port in portals], "cluster_name": "ceph"}
        data |= {"mon_host": ",".join(_portals(monitor.public_addrs) for monitor in monitors)}
        data |= {"auth_enabled": True, "auth_username": user, "secret_type": "ceph"}
        data |= {"keyring": f"[client.{user}]\n\tkey = {key}\n", "discard": True}
        return ConnectionInfo("rbd", data)

    async def disconnect_volume(self, volume: str, connector: Connector | None) -> None:
        info = await self._any(volume)
        noted = set(await self._connections(volume))
        # Who is let in, too: a command beside this one may have done that and noted nothing.
        begin = _user(volume, "")
        let_in = {user.removeprefix(begin) for user in await self._ceph.users(begin)}
        keys = noted | let_in
        if connector is not None:
            keys &= {key_of(connector)}
        users = [_user(volume, key) for key in sorted(keys)]
        for user in users:
            await self._ceph.remove_user(user)
        if users or connector is None:
            await Fence(self._ceph, self._rbd, info.name).cut(users, everybody=connector is None)
        for key in sorted(keys & noted):
            await self._rbd.remove_note(info.name, _note(volume, key))

    async def extend_volume(self, volume: str, gib: int) -> None:
        info = await self._existing(volume)
        if gib * GIB < info.size:
            raise BadParameter("size", f"{gib} GiB is less than the volume has")
        if gib * GIB > info.size:
            await self._rbd.resize(info.name, gib)

    async def save_device(self, volume: str, device: Any, connector: Connector | None) -> None:
        connection = await self._the_one(volume, connector)
        connection.device = device
        await self._note(volume, connection)

    async def get_connection_info(self, volume: str, connector: Connector | None) -> dict[str, Any]:
        info = await self._existing(volume)
        connection = await self._the_one(volume, connector)
        answer: dict[str, Any] = msgspec.to_builtins(
            await self._let_in(volume, info, connection.connector)
        )
        return answer | ({} if connection.device is None else {"device": connection.device})

    async def storage_stats(self) -> Stats:
        for pool in await self._ceph.room():
            if pool.name == self._pool:
                free = pool.stats.max_avail / GIB
                return Stats(pool.stats.stored / GIB + free, free, "ceph", self._pool)
        raise ManagedStorageFailed(f"there is no pool {self._pool}")

    async def clone_volume(self, volume: str, new: str) -> None:
        info = await self._existing(volume)
        draft = f"{DRAFT}{new}"
        left = draft in await self._rbd.snapshots(info.name)  # by a call that died
        if not await self._is_made(new, volume, begun=left):
            if not left:
                await self._rbd.create_snapshot(info.name, draft)
            await self._make(info.name, draft, new, volume)
            left = True
        if left:
            await self._rbd.remove_snapshot(info.name, draft)

    async def create_snapshot(self, volume: str, snapshot: str) -> None:
        info = await self._existing(volume)
        if snapshot not in await self._snapshots(volume):
            await self._rbd.create_snapshot(info.name, snapshot)

    async def remove_snapshot(self, volume: str, snapshot: str) -> None:
        await self._rbd.remove_snapshot(await self._with(volume, snapshot), snapshot)

    async def create_volume_from_snapshot(self, volume: str, snapshot: str, new: str) -> None:
        image = await self._with(volume, snapshot)
        origin, making = f"{volume}@{snapshot}", f"{MAKING}{new}"
        begun = (await self._rbd.notes(image)).get(making) == origin  # by a call that died
        if not await self._is_made(new, origin, begun=begun):
            if not begun:
                await self._rbd.note(image, making, origin)
            await self._make(image, snapshot, new, origin)
            begun = True
        if begun:
            await self._rbd.remove_note(image, making)

    async def revert_to_snapshot(self, volume: str, snapshot: str) -> None:
        image = await self._with(volume, snapshot)
        await self._must_be_idle(volume)
        await self._rbd.roll_back(image, snapshot)

    async def list_volumes(self) -> list[str]:
        images = await self._rbd.images()
        return sorted(name.removeprefix(IMAGE) for name in images if name.startswith(IMAGE))

    async def volume_info(self, volume: str) -> VolumeInfo:
        info = await self._existing(volume)
        hosts = [one.connector.host for one in (await self._connections(volume)).values()]
        return VolumeInfo(info.size, await self._snapshots(volume), sorted(hosts))

    # --- a volume

    async def _any(self, volume: str) -> Info:
        """Also one that is not complete."""
        info = await self._rbd.info(_image(volume))
        if info is None:
            raise NoSuchManagedVolume(volume)
        return info

    async def _existing(self, volume: str) -> Info:
        info = await self._any(volume)
        if info.parent is not None:
            reason = f"it is still being made from {info.parent.image}; repeat that"
            raise ManagedVolumeInUse(volume, reason)
        return info

    async def _with(self, volume: str, snapshot: str) -> str:
        """The image of a volume that has a snapshot."""
        info = await self._existing(volume)
        if snapshot not in await self._snapshots(volume):
            raise NoSuchManagedSnapshot(volume, snapshot)
        return info.name

    async def _snapshots(self, volume: str) -> list[str]:
        found = await self._rbd.snapshots(_image(volume))
        return [name for name in found if not name.startswith(DRAFT)]

    async def _must_be_idle(self, volume: str) -> None:
        if connections := await self._connections(volume):
            hosts = ", ".join(one.connector.host for one in connections.values())
            raise ManagedVolumeInUse(volume, f"it is connected for {hosts}")
        await Fence(self._ceph, self._rbd, _image(volume)).cut_dead()
        if watchers := await self._rbd.watchers(_image(volume)):
            raise ManagedVolumeInUse(volume, f"{watchers[0].address} has it open")

    async def _is_made(self, new: str, origin: str, *, begun: bool) -> bool:
        """Whether the volume was made from `origin`; else it is not there, or not yet flat.

        begun: a call that was to make it from there has died. It may have left an image without a
        parent, for a clone gets that after it was created; which is removed, if nothing is in it.
        """
        info = await self._rbd.info(_image(new))
        if info is None:
            return False
        if (await self._rbd.notes(info.name)).get(ORIGIN) == origin:
            return info.parent is None
        if info.parent is None:
            if not begun or await self._rbd.has_data(info.name):
                raise ManagedVolumeExists(new, f"it was not made from {origin}")
            await self._must_be_idle(new)
            await self._rbd.remove(info.name)
        return False  # a clone that was killed before it could note its origin

    async def _make(self, image: str, snapshot: str, new: str, origin: str) -> None:
        """A clone is complete at once and becomes flat later, so it is never half-made."""
        found = await self._rbd.info(_image(new))
        if found is None:
            await self._anew(_image(new), partial(self._rbd.clone, image, snapshot, _image(new)))
        elif found.parent != Parent(image, snapshot):  # by a call that died
            raise ManagedVolumeExists(new, f"it is being made, but not from {origin}")
        await self._rbd.note(_image(new), ORIGIN, origin)
        await self._rbd.flatten(_image(new))

    async def _anew(self, image: str, make: Callable[[], Awaitable[None]]) -> None:
        """Make an image that is not there. What a killed command left of one is removed first."""
        try:
            await make()
        except ToolFailed as e:
            if e.status != EEXIST or await self._rbd.info(image) is not None:
                raise
            await self._cleared(image)
            await make()

    async def _cleared(self, image: str) -> bool:
        """Remove what is left of an image without a header. False: there was nothing.

        `rbd rm` killed in the middle leaves entries without an image, or an image in the trash,
        and finishes either when it is run again; `rbd create` can leave entries as well.
        """
        try:
            await self._rbd.remove(image)
        except ToolFailed as e:
            if e.status != ENOENT:
                raise
            return False
        return True

    # --- connections

    async def _connections(self, volume: str) -> dict[str, Connection]:
        """By key. A clone has the notes of its parent too, which are about another volume."""
        begin = _note(volume, "")
        notes = await self._rbd.notes(_image(volume))
        found = {key: text for key, text in notes.items() if key.startswith(begin)}
        return {key.removeprefix(begin): _connection(text) for key, text in found.items()}

    async def _the_one(self, volume: str, connector: Connector | None) -> Connection:
        await self._any(volume)
        found = await self._connections(volume)
        wanted = [key for key in found if connector is None or key == key_of(connector)]
        if len(wanted) != 1:
            hosts = ", ".join(one.connector.host for one in found.values())
            raise ManagedVolumeInUse(volume, f"it is connected for {hosts or 'no host'}")
        return found[wanted[0]]

    async def _note(self, volume: str, connection: Connection) -> None:
        text = msgspec.json.encode(connection).decode()
        key = _note(volume, key_of(connection.connector))
        await self._rbd.note(_image(volume), key, text)


def _image(volume: str) -> str:
    return f"{IMAGE}{volume}"


def _note(volume: str, key: str) -> str:
    return f"{NOTE}.{volume}.{key}"


def _user(volume: str, key: str) -> str:
    return f"{NOTE}.{volume}.{key}"


def _rights(pool: str, info: Info) -> str:
    """All of one image, and what opening any image reads. Source: the names of librbd's objects."""
    write = [f"rbd_data.{info.id}.", f"rbd_header.{info.id}", f"rbd_object_map.{info.id}"]
    read = [f"rbd_id.{info.name}", "rbd_info"]
    rights = [f"allow rwx pool={pool} object_prefix {prefix}" for prefix in write]
    return ", ".join(rights + [f"allow rx pool={pool} object_prefix {prefix}" for prefix in read])


def _portals(addresses: Any) -> str:
    return f"[{','.join(f'{one.type}:{one.addr}' for one in addresses.addrvec)}]"


def _connection(text: str) -> Connection:
    try:
        return msgspec.json.decode(text, type=Connection)
    except (msgspec.MsgspecError, UnicodeError) as e:
        raise ManagedStorageFailed(f"a note at an image: {e}") from None


def adapter(options: Options, stack: ExitStack) -> Adapter:
    return CephAdapter(options.pool, access(options, stack))


def main() -> int:
    with ExitStack() as stack:
        return program.main(Options, partial(adapter, stack=stack), waiting.finished)


if __name__ == "__main__":
    sys.exit(main())
