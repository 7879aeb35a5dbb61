"""The sanlock daemon of this host, through its Python binding. Nothing else imports that.

Everything here blocks. What the daemon refuses is a Refused with its number; SanlockUnavailable
is raised by all when there is no daemon. Which daemon: the environment variable SANLOCK_RUN_DIR,
which the binding reads once per process.
Source: sanlock(8), pydoc of the package python3-sanlock 3.8.5, docs/formats.md "sanlock".
"""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from types import ModuleType
from typing import Any, ClassVar

from leases.call import Call
from leases.geometry import Geometry
from leases.lease import Lease
from leases.worker import T
from protocol.errors import SanlockUnavailable

RUN_DIR = "SANLOCK_RUN_DIR"

# What the daemon answers beside the numbers of errno(3), all negative in the binding.
HELD_BY_A_LIVE_HOST = 243
NO_LEASE_ON_STORAGE = 223
WRONG_RESOURCE = 227

ANSWER_TIME = 5.0  # seconds; the daemon answers questions from its memory

_GONE = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.EBADF}
_MAYBE_GONE = {errno.ENOENT, errno.EACCES, errno.EPERM}  # answers of the daemon as well


class Refused(Exception):
    """The daemon answered with an error. number: of errno(3), or one of sanlock's, positive."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"{text} ({number})")
        self.number = number


class HostState(IntEnum):
    """What the daemon thinks of a host of a lockspace (the low byte of its flags)."""

    UNKNOWN = 1
    FREE = 2
    LIVE = 3
    FAIL = 4
    DEAD = 5


@dataclass(frozen=True)
class Host:
    """A host of a lockspace. generation: how often it has joined. timestamp: of its last renewal,
    in seconds of its own monotonic clock."""

    host_id: int
    generation: int
    state: HostState
    timestamp: int
    io_timeout: int


@dataclass(frozen=True)
class Membership:
    """A lockspace of the daemon. joined: False while it is being joined or left."""

    sd_id: str
    host_id: int
    path: str
    joined: bool


def run_dir() -> str:
    """Where the daemon's socket is."""
    return os.environ.get(RUN_DIR) or "/run/sanlock"


def registered() -> int:
    """A new registration: a socket. What it holds is free when all its copies are closed."""
    with _answers() as sanlock:
        fd: int = sanlock.register()
    os.set_inheritable(fd, False)
    return fd


def gone(fd: int) -> bool:
    """Has the daemon closed this registration? Asks only the kernel, so it cannot hang.

    Not while a call on it is under way: an answer that nobody asked for counts as the end, too. So
    does everything that is no registration.
    """
    try:
        with _socket(fd) as there:
            there.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def acquire(fd: int, lease: Lease) -> None:
    """Acquire a lease for the registration `fd`, without sanlock's own handling of value blocks.

    It can block for more than a minute while the owner's host is being given up: look at that
    first, and call `cancel` from another thread.
    """
    with _answers() as sanlock:
        sanlock.acquire(*_names(lease), [(lease.path, lease.offset)], slkfd=fd)


def release(fd: int, lease: Lease) -> None:
    """Release it. On storage that hangs this may never return."""
    with _answers() as sanlock:
        sanlock.release(*_names(lease), [(lease.path, lease.offset)], slkfd=fd)


def cancel(fd: int) -> None:
    """End a call on the registration `fd` that blocks; it holds nothing afterwards."""
    try:
        with _socket(fd) as there:
            there.shutdown(socket.SHUT_RDWR)
    except OSError as e:
        if e.errno != errno.ENOTCONN:
            raise


def host(sd_id: str, host_id: int) -> Host | None:
    """What is known of one host; None: nothing yet, it is soon after joining.

    Refused with ENOENT: the lockspace is not joined.
    """
    found = hosts(sd_id, host_id)
    return found[0] if found else None


def hosts(sd_id: str, host_id: int = 0) -> list[Host]:
    """The hosts that were ever seen in a lockspace; none for some seconds after joining."""
    try:
        found = _answer(lambda sanlock: sanlock.get_hosts(sd_id.encode(), host_id))
    except Refused as e:
        if e.number == errno.EAGAIN:
            return []
        raise
    return [_host(one) for one in found]


def memberships() -> list[Membership]:
    """The lockspaces of the daemon."""
    found = _answer(lambda sanlock: sanlock.get_lockspaces())
    return [
        Membership(
            one["lockspace"].decode("ascii", "replace"),
            one["host_id"],
            one["path"],
            joined=one["flags"] == 0,
        )
        for one in found
    ]


def join(sd_id: str, host_id: int, path: str, io_timeout: int) -> None:
    """Begin to join a lockspace; `joined` tells when it is done. io_timeout: seconds."""
    with _answers() as sanlock:
        sanlock.add_lockspace(sd_id.encode(), host_id, path, iotimeout=io_timeout, wait=False)


def leave(sd_id: str, host_id: int, path: str) -> None:
    """Begin to leave a lockspace. Refused with EBUSY while a lease in it is held."""
    with _answers() as sanlock:
        sanlock.rem_lockspace(sd_id.encode(), host_id, path, wait=False, unused=True)


def joined(sd_id: str, host_id: int, path: str) -> bool | None:
    """Is the lockspace joined as this host? None: it is being joined or left."""
    answer: bool | None = _answer(
        lambda sanlock: sanlock.inq_lockspace(sd_id.encode(), host_id, path)
    )
    return answer


def lockspace_io_timeout(path: str, geometry: Geometry) -> tuple[str, int]:
    """Name and io_timeout (seconds) that the lockspace at `path` was written with.

    Refused with NO_LEASE_ON_STORAGE: it is not formatted.
    """
    with _answers() as sanlock:
        found = sanlock.read_lockspace(path, align=geometry.alignment, sector=geometry.sector)
    return found["lockspace"].decode("ascii", "replace"), found["iotimeout"]


@contextmanager
def _socket(fd: int) -> Iterator[socket.socket]:
    """The registration as a socket, which stays open. Raises OSError: it is none."""
    there = socket.socket(fileno=fd)
    try:
        yield there
    finally:
        there.detach()


def _names(lease: Lease) -> tuple[bytes, bytes]:
    return lease.sd_id.encode(), lease.lease_id.encode()


def _host(found: dict[str, Any]) -> Host:
    return Host(
        found["host_id"],
        found["generation"],
        HostState(found["flags"] & 0xFF),
        found["timestamp"],
        found["io_timeout"],
    )


class _Question:
    """A question to the daemon that can be left behind: a daemon that is stopped never answers, and
    the binding cannot be interrupted."""

    _open: ClassVar[Call[Any] | None] = None  # one that nobody waits for any more

    @classmethod
    def asked(cls, ask: Callable[[ModuleType], T]) -> T:
        """The answer. SanlockUnavailable: none in time; then it is not asked again in vain."""
        if not (cls._open and cls._open.running):
            call = Call(lambda: _answered(ask))
            try:
                if call.ends_in(ANSWER_TIME):
                    return call.answer()
            finally:
                if call.running:
                    cls._open = call
        raise SanlockUnavailable(run_dir(), f"it has not answered for {ANSWER_TIME:g} s")


def _answer(ask: Callable[[ModuleType], T]) -> T:
    return _Question.asked(ask)


def _answered(ask: Callable[[ModuleType], T]) -> T:
    with _answers() as sanlock:
        return ask(sanlock)


@contextmanager
def _answers() -> Iterator[ModuleType]:
    """The binding, its errors made ours."""
    try:
        import sanlock  # noqa: PLC0415 - the embedded store works without
    except ImportError as e:
        raise SanlockUnavailable(run_dir(), f"install python3-sanlock ({e})") from None
    try:
        yield sanlock
    except sanlock.SanlockException as e:
        number = abs(e.errno)
        if number in _GONE or (number in _MAYBE_GONE and not _there(sanlock)):
            reason = os.strerror(number)
            if number in (errno.EACCES, errno.EPERM):
                reason += ": become root, or a member of the group sanlock"
            raise SanlockUnavailable(run_dir(), reason) from None
        raise Refused(number, str(e.args[-1])) from None


def _there(sanlock: ModuleType) -> bool:
    """Does a daemon take connections?"""
    try:
        os.close(sanlock.register())
    except sanlock.SanlockException:
        return False
    return True
