"""Who is at the other end of a unix socket. Source: unix(7), SO_PEERCRED; socket(7)."""

import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass

import trio

from host.wire.call import Peer
from host.wire.tls import NotAdmitted

_SO_PEERGROUPS = 59  # asm-generic/socket.h; Python has no name for it
_GROUPS_LIMIT = 1024  # bytes, the most that Python asks for: 256 groups


@dataclass(frozen=True)
class Credentials:
    """groups: the primary one and the others, of the process when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]


def credentials(stream: trio.SocketStream) -> Credentials:
    found = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("3i", found)
    try:
        others = stream.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_LIMIT)
    except OSError:  # more than fit: only the primary one counts
        others = b""
    return Credentials(pid, uid, frozenset({gid, *struct.unpack(f"{len(others) // 4}I", others)}))


def peer(found: Credentials, *, owner: int, monitors: Collection[int]) -> Peer:
    """Root and the user of the agent may do all, members of `monitors` may look. NotAdmitted."""
    name = f"uid:{found.uid}"
    if found.uid in (0, owner):
        return Peer("engine", name)
    if found.groups & set(monitors):
        return Peer("monitor", name)
    raise NotAdmitted(f"user {found.uid} is not allowed here")
