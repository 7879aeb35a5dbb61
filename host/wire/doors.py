"""Where clients come in, and how each door finds out who they are."""

import errno
import grp
import ipaddress
import os
import socket
import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass

import trio

from host.wire import credentials, tls
from host.wire.call import Peer, Role
from protocol.errors import BadParameter

PORT = 54321
BACKLOG = 1024
# A peer that is gone without a word is found out within these times (tcp(7)).
KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),  # seconds
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),  # milliseconds
)


@dataclass(frozen=True)
class Door(ABC):
    """A listening socket."""

    listener: trio.SocketListener
    name: str

    async def open(self, stream: trio.SocketStream) -> trio.abc.Stream:
        """Do what comes before the first frame. Raises trio.BrokenResourceError."""
        return stream

    @abstractmethod
    def peer(self, stream: trio.abc.Stream) -> Peer:
        """Who is there. Raises NotAdmitted."""

    def close(self) -> None:
        self.listener.socket.close()


@dataclass(frozen=True)
class UnixDoor(Door):
    """Local tools. monitors: ids of the groups whose members may look."""

    inode: int
    monitors: frozenset[int] = frozenset()

    def peer(self, stream: trio.abc.Stream) -> Peer:
        assert isinstance(stream, trio.SocketStream)
        found = credentials.credentials(stream)
        return credentials.peer(found, owner=os.geteuid(), monitors=self.monitors)

    def close(self) -> None:
        super().close()
        try:
            if os.stat(self.name).st_ino == self.inode:  # not that of a successor
                os.unlink(self.name)
        except FileNotFoundError:
            pass


@dataclass(frozen=True)
class TlsDoor(Door):
    secrets: tls.Secrets

    async def open(self, stream: trio.SocketStream) -> trio.abc.Stream:
        _keep_alive(stream)
        secure = trio.SSLStream(
            stream, self.secrets.context, server_side=True, https_compatible=True
        )
        await secure.do_handshake()
        return secure

    def peer(self, stream: trio.abc.Stream) -> Peer:
        assert isinstance(stream, trio.SSLStream)
        return tls.peer(stream.getpeercert() or {}, self.secrets.files.names)


@dataclass(frozen=True)
class LoopbackDoor(Door):
    """Without any proof of who is there: every process of this host has this one role."""

    role: Role

    async def open(self, stream: trio.SocketStream) -> trio.abc.Stream:
        _keep_alive(stream)
        return stream

    def peer(self, stream: trio.abc.Stream) -> Peer:
        return Peer(self.role, "loopback")


async def unix_door(path: str, *, monitors: str | None = None) -> UnixDoor:
    """Listen on a unix socket. monitors: the group whose members may look.

    Without a group only root and our own user get as far as connecting. What a dead agent has left
    is replaced. BadParameter: another agent listens there, no such group or folder, a path that is
    too long, or something else stands there.
    """
    gid = None if monitors is None else _group(monitors)
    if await _taken(path):
        raise BadParameter("socket", f"another agent listens on {path}")
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind(made, path, gid)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(made))
    except (OSError, ValueError) as e:
        made.close()
        raise BadParameter("socket", f"{path}: {e}") from None
    groups = frozenset() if gid is None else frozenset({gid})
    return UnixDoor(listener, path, os.stat(path).st_ino, groups)


def _bind(made: socket.socket, path: str, gid: int | None) -> None:
    """Nobody gets in before it listens, and by then its mode is right."""
    made.setblocking(False)
    made.bind(path)
    os.chmod(path, 0o600 if gid is None else 0o660)
    if gid is not None:
        os.chown(path, -1, gid)
    made.listen(BACKLOG)


async def _taken(path: str) -> bool:
    """Whether somebody listens on it; a socket on which nobody does is removed."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise BadParameter("socket", f"{path} is there and is no socket")
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        status = probe.connect_ex(path)
    if status == errno.ECONNREFUSED:
        os.unlink(path)
        return False
    return status != errno.ENOENT


def _group(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise BadParameter("monitors", f"no such group: {name}") from None


async def tls_doors(host: str | None, port: int, secrets: tls.Secrets) -> list[TlsDoor]:
    """Listen on all addresses of `host`; None: on all of this host. Raises BadParameter."""
    return [TlsDoor(one, _name(one), secrets) for one in await _tcp(host, port)]


async def loopback_doors(host: str, port: int, role: Role = "monitor") -> list[LoopbackDoor]:
    """Listen without encryption and proof, on an address of this host alone: 127.0.0.1, say.

    Raises BadParameter, for any other address too.
    """
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise BadParameter("host", f"{host} is no loopback address; use TLS")
    return [LoopbackDoor(one, _name(one), role) for one in await _tcp(host, port)]


async def _tcp(host: str | None, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    except OSError as e:
        raise BadParameter("listen", f"{host or '*'} port {port}: {e}") from None


def _name(listener: trio.SocketListener) -> str:
    host, port, *_ = listener.socket.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _keep_alive(stream: trio.SocketStream) -> None:
    for level, option, value in KEEPALIVE:
        stream.setsockopt(level, option, value)
