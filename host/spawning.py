"""The agent's side of the warm parent: start workers, and start it again when it dies."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import trio

from host.folder import Folder
from processes import logs
from protocol.errors import WorkerNotStarted

log = structlog.get_logger()

START_TIME = 30.0  # seconds for the warm parent to have everything imported, and for an answer
END_TIME = 5.0  # seconds for one that was killed to be gone
TRIES = 3
ROOT = Path(__file__).parent.parent  # where the packages are
ANSWER_LIMIT = 1 << 12  # bytes
_ENDED = "the warm parent has ended"


class Spawner:
    """Not thread safe: it belongs to the trio thread."""

    def __init__(self) -> None:
        self._popen: subprocess.Popen[bytes] | None = None
        self._socket: trio.socket.SocketType | None = None
        self._lock = trio.Lock()

    @property
    def pid(self) -> int | None:
        """Of the warm parent."""
        return None if self._popen is None else self._popen.pid

    async def warm(self) -> None:
        """Have the warm parent ready before it is needed."""
        async with self._lock:
            try:
                await self._asked(None)
            except OSError as e:
                log.warning("no warm parent yet", error=str(e))

    async def start(self, folder: Folder, limit: int | None = None) -> None:
        """Start the worker of a job, unless it has one or has ended.

        limit: bytes per second; None: that of its specification.
        Raises WorkerNotStarted. Then, and when it is cancelled, there may be one all the same: the
        lock of the folder tells.
        """
        reason = ""
        async with self._lock:
            for _ in range(TRIES):
                try:
                    answer = await self._asked(b"%d %s" % (limit or 0, os.fsencode(folder.path)))
                except OSError as e:  # of the warm parent, so a new one may do better
                    reason = str(e)
                    log.warning("no worker", job=folder.job_id, error=reason)
                    continue
                if answer.startswith("failed"):
                    reason = answer.removeprefix("failed ")
                    break
                return
        raise WorkerNotStarted(folder.job_id, reason)

    async def _asked(self, request: bytes | None) -> str:
        """The answer to a request. OSError: there is none, and no warm parent any more."""
        # Whole, or not at all: an answer that nobody waits for would be the next one's.
        with trio.CancelScope(shield=True):
            try:
                with trio.fail_after(START_TIME):
                    answer = await self._answer(request)
            except OSError:
                await self._end()
                raise
            except trio.TooSlowError:
                await self._end()
                raise OSError(f"the warm parent is silent for {START_TIME:g} s") from None
        return answer

    async def _answer(self, request: bytes | None) -> str:
        if self._socket is None:
            self._socket = await self._begun()
        if request is None:
            return ""
        await self._socket.send(request)
        if answer := await self._socket.recv(ANSWER_LIMIT):
            return answer.decode(errors="replace")
        raise OSError(_ENDED)

    async def _begun(self) -> trio.socket.SocketType:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made = trio.socket.from_stdlib_socket(ours)
        try:
            with theirs:
                style = logs.style().of_worker
                command = [sys.executable, "-m", "host.spawner", str(theirs.fileno())]
                self._popen = subprocess.Popen(  # noqa: ASYNC220 - a fork; it is waited for below
                    [*command, style.level, style.format],
                    cwd=ROOT,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,  # logs are written to stderr
                    start_new_session=True,  # Ctrl-C at the terminal is for the agent
                )
            if await made.recv(ANSWER_LIMIT) != b"ready":
                raise OSError(_ENDED)
        except BaseException:
            made.close()
            raise
        return made

    async def _end(self) -> None:
        """End the warm parent; workers go on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._popen is not None:
            popen, self._popen = self._popen, None
            popen.kill()
            # Bounded: a process that hangs in the kernel is left to the next collection of such.
            with trio.CancelScope(shield=True), trio.move_on_after(END_TIME):
                await _gone(popen)


async def _gone(popen: "subprocess.Popen[bytes]") -> None:
    if popen.poll() is not None:
        return
    pidfd = os.pidfd_open(popen.pid)
    try:
        await trio.lowlevel.wait_readable(pidfd)
        popen.wait()
    finally:
        os.close(pidfd)


@asynccontextmanager
async def spawner() -> AsyncGenerator[Spawner]:
    """A warm parent for the body."""
    made = Spawner()
    try:
        yield made
    finally:
        await made._end()
