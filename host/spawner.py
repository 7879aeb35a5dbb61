"""The warm parent of the workers: all is imported, so a worker costs a fork and no start.

Run as `python -m host.spawner FD LEVEL FORMAT` by the agent, with one end of a sequenced-packet
socket, and how the workers log. A request is the limit of the job in bytes per second (0: as
specified), a space, and its folder. The answer is `started PID`, `busy`: it has a worker, `ended`:
it needs none, or `failed REASON`.
It has no threads, no trio loop and holds nothing of any job; it ends when the agent does, and its
workers go on. Source: unix(7), fork(2).
"""

import gc
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import host.copying
import host.worker
from host.folder import Folder
from processes import logs

log = logging.getLogger("host.spawner")  # it runs as __main__

NAME = "leasehold-spawn"
REQUEST_LIMIT = 1 << 13
BACKLOG = 8


def main(fd: int) -> None:
    _settle()
    with socket.socket(fileno=fd) as agent, suppress(BrokenPipeError, ConnectionResetError):
        agent.send(b"ready")
        while request := agent.recv(REQUEST_LIMIT):
            agent.send(_answer(request, agent).encode())


def _settle() -> None:
    with suppress(OSError):
        Path("/proc/self/comm").write_text(NAME)
    os.chdir("/")  # no file system is kept busy, and nothing is found by accident
    # The kernel reaps the workers: nobody here waits for them, their locks tell that they ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with suppress(ImportError):
        import sanlock  # noqa: F401, PLC0415 - for the workers
    gc.collect()
    gc.freeze()  # what is never looked at again stays shared with the workers


def _answer(request: bytes, agent: socket.socket) -> str:
    limit, _, path = request.partition(b" ")
    folder = Folder(Path(os.fsdecode(path)))
    try:
        lock = folder.lock()
        if lock is None:
            return "busy"
        try:
            if folder.ended:
                return "ended"
            with listening(folder) as listener:
                try:
                    return f"started {_forked(folder, listener, agent, int(limit) or None)}"
                except OSError:
                    folder.socket.unlink(missing_ok=True)  # it was not begun
                    raise
        finally:
            os.close(lock)  # the worker has it
    except OSError as e:
        return f"failed {e}"


def listening(folder: Folder) -> socket.socket:
    """The socket of the job, bound by a short name: a path of a socket has at most 107 bytes."""
    folder.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{folder.socket.name}")
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(directory)
    return listener


def _forked(
    folder: Folder, listener: socket.socket, agent: socket.socket, limit: int | None
) -> int:
    """Fork the worker; returns its process id here, and never returns there."""
    # Blocked until the worker can obey: who asks it to stop must not kill it instead.
    signal.pthread_sigmask(signal.SIG_BLOCK, host.worker.STOPPING)
    try:
        pid = os.fork()
        if pid:
            return pid
        _work(folder, listener, agent, limit)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, host.worker.STOPPING)


def _work(
    folder: Folder, listener: socket.socket, agent: socket.socket, limit: int | None
) -> NoReturn:
    status = 1
    try:
        agent.close()
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        host.worker.main(folder, listener, limit)
        status = 0
    except BaseException:
        log.exception("a worker failed", extra={"job": folder.job_id})
    finally:
        os._exit(status)


if __name__ == "__main__":
    logs.set_up(logs.Style(*sys.argv[2:]))  # type: ignore[arg-type]
    main(int(sys.argv[1]))
