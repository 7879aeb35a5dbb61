"""qemu-nbd as a server of its own, which lives longer than who started it.

A server is found again by its socket, among the processes of this host: no file has to be believed
that says its process id. These functions block: they are for a program that does nothing else.
Source: qemu-nbd(8), proc(5), pidfd_open(2).
"""

import os
import select
import signal
from contextlib import suppress

from processes.image_node import Node, ref
from processes.short_tool import run
from protocol.errors import BadOutput, ToolStalled

NAME = "qemu-nbd"
START = 20.0  # seconds until it serves
TERM_WAIT = 5.0  # seconds between SIGTERM and SIGKILL: it writes what it has accepted
KILL_WAIT = 20.0  # seconds; storage that hangs keeps a killed process
SOCKET_LIMIT = 107  # bytes of a path, unix(7)


def serve(node: Node, socket: str, export: str) -> None:
    """Start a server of `node` for any number of clients; it listens when this returns.

    The socket may be there, of a server that is gone. Raises BadOutput, and what `run` does.
    """
    argv = [NAME, "-t", "--shared=0", "-k", socket, "-x", export, "--discard=unmap"]
    run([*argv, "--pid-file", f"{socket}.pid", "--fork", ref(node)], seconds=START)
    if not servers(socket):
        raise BadOutput(NAME, "it said that it serves, and is not there")


def servers(socket: str) -> list[int]:
    """The processes of qemu-nbd that serve, or are about to serve, on a socket."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _serves(name, socket)]


def _serves(pid: str, socket: str) -> bool:
    try:
        # Without a buffer: there are many processes.
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
            words = file.readall().split(b"\0")
    except OSError:  # it has ended
        return False
    return os.path.basename(words[0]) == NAME.encode() and socket.encode() in words


def end(socket: str) -> None:
    """End every server on a socket, and so what its clients can write; the socket is removed.

    Raises ToolStalled: one does not end, its storage hangs.
    """
    while found := servers(socket):  # one may just have forked
        for pid in found:
            _end(pid, socket)
    for path in (socket, f"{socket}.pid"):
        with suppress(FileNotFoundError):
            os.unlink(path)


def _end(pid: int, socket: str) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    try:
        if not _serves(str(pid), socket):  # the number may have become another process's
            return
        for number, seconds in ((signal.SIGTERM, TERM_WAIT), (signal.SIGKILL, KILL_WAIT)):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
            if poll.poll(1000 * seconds):
                return
    finally:
        os.close(fd)
    raise ToolStalled(NAME, TERM_WAIT + KILL_WAIT)
