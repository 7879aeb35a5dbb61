"""One Ceph cluster for all processes of a run of the tests.

The first that wants it starts its keeper: a process of its own, whose children the daemons are.
Each user is connected to the keeper by a socket, and the last one to leave, in whatever way it
ends, has the keeper end the daemons and itself. They also die with the keeper.
"""

import fcntl
import os
import select
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from tests.ceph_cluster import PATIENCE, CephCluster, ceph_cluster

ROOT = Path(__file__).parents[1]
LOCK, ADDRESS, LOG = "ceph.lock", "ceph.address", "ceph.log"  # in the place of a run
USERS = "users"  # the socket of a keeper, in the folder of its cluster: its path is short
STARTS = 3 * PATIENCE  # seconds that a start may take


class _Told(msgspec.Struct):
    """What a keeper tells its users, as one line of JSON."""

    folder: str
    mon_host: str
    pids: dict[str, int]


@contextmanager
def shared(place: Path) -> Iterator[CephCluster]:
    """The cluster of a run. place: a folder that all its processes know, and no other run."""
    with (place / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        user, told = _running(place) or _started(place)
    with user:
        yield CephCluster(Path(told.folder), told.mon_host, told.pids)
        user.shutdown(socket.SHUT_WR)
        assert user.recv(1) == b""  # for the last one the daemons have ended


def _running(place: Path) -> tuple[socket.socket, _Told] | None:
    """None: there is no keeper, or it is about to end."""
    with suppress(OSError, msgspec.DecodeError):
        address = (place / ADDRESS).read_text()
        user = socket.socket(socket.AF_UNIX)
        try:
            user.settimeout(PATIENCE)
            user.connect(address)
            return user, _told(user)
        except BaseException:
            user.close()
            raise
    return None


def _started(place: Path) -> tuple[socket.socket, _Told]:
    user, kept = socket.socketpair()
    user.settimeout(STARTS)
    with kept, (place / LOG).open("wb") as log:
        argv = [sys.executable, "-m", __name__, str(place), str(kept.fileno())]
        subprocess.run(
            argv,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[kept.fileno()],
            start_new_session=True,  # what stops the tests is nothing to it
            check=True,
        )
    try:
        return user, _told(user)
    except BaseException as e:
        user.close()
        raise AssertionError(f"no cluster of Ceph: {(place / LOG).read_text()}") from e


def _told(user: socket.socket) -> _Told:
    with user.makefile("rb") as lines:
        return msgspec.json.decode(lines.readline(), type=_Told)


def keep(place: Path, first: socket.socket) -> None:
    """Start a cluster, and end it when the first user and all others have left."""
    with ceph_cluster() as cluster:
        address = str(cluster.folder / USERS)
        told = _Told(str(cluster.folder), cluster.mon_host, cluster.pids)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(address)
            server.listen(64)
            (place / ADDRESS).write_text(address)
            _tell(first, told)
            last = _served(server, first, told)
    last.close()  # the last user waits for this


def _served(server: socket.socket, first: socket.socket, told: _Told) -> socket.socket:
    """Returns the user who was the last one to leave."""
    users = [first]
    while True:
        ready, _, _ = select.select([server, *users], [], [])
        for one in ready:
            if one is server:
                user, _ = server.accept()
                _tell(user, told)
                users.append(user)
            elif len(users) == 1:
                return one
            else:  # they say nothing: it has left
                users.remove(one)
                one.close()


def _tell(user: socket.socket, told: _Told) -> None:
    with suppress(OSError):  # it has left
        user.sendall(msgspec.json.encode(told) + b"\n")


def main() -> None:
    place, first = Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))
    if os.fork():  # who started it does not wait for its end
        os._exit(0)
    with first:
        try:
            keep(place, first)
        except BaseException:
            traceback.print_exc()  # before the first user is told by the end of the connection
            raise SystemExit(1) from None


if __name__ == "__main__":
    main()
