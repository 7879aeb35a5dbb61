"""The agent's side of a worker: its progress, an abort, and how its job ended."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog
import trio

from host import local, talk
from host.folder import Ending, Folder
from jobs.progress import Progress

log = structlog.get_logger()

FIRST_LOOK = 0.02  # seconds until the next try to reach a worker; doubled up to LAST_LOOK
LAST_LOOK = 1.0


@dataclass(frozen=True)
class Watcher:
    """Who wants to know. aborting: is called when the worker has begun to abort by itself."""

    report: Callable[[Progress], None]
    aborting: Callable[[], None]


async def followed(folder: Folder, watcher: Watcher, *, abort: bool = False) -> Ending | None:
    """Follow the worker of a job to its end; None: it has none, and no ending either.

    abort: ask it to stop first. Nothing that a worker says, and no trouble of ours, is taken for
    the end of its job: only its ending is, or its death.
    """
    wait = FIRST_LOOK
    while True:
        try:
            ending = await _listened(folder, watcher, abort=abort)
            if ending is not None:
                return ending
            alive = await local.run(lambda: folder.alive)
            # Looked at last: what it wrote just before it went is seen.
            if (ending := await local.run(_written, folder)) or not alive:
                return ending
        except OSError as e:  # too many open files, say
            log.warning("worker cannot be followed", job=folder.job_id, error=str(e))
        await trio.sleep(wait)
        wait = min(wait * 2, LAST_LOOK)


def _written(folder: Folder) -> Ending | None:
    try:
        return folder.ending()
    except msgspec.MsgspecError as e:
        log.error("ending cannot be read", job=folder.job_id, error=str(e))
        return None


async def _listened(folder: Folder, watcher: Watcher, *, abort: bool) -> Ending | None:
    """Listen as long as the worker speaks; None: it has gone without telling an ending."""
    try:
        stream = await connected(folder)
    except (FileNotFoundError, ConnectionRefusedError):
        return None  # not yet, or not any more
    async with stream:
        try:
            if abort:
                await stream.send_all(talk.line(talk.Order("abort")))
            async for line in talk.Lines(stream):
                state = msgspec.json.decode(line, type=talk.State)
                watcher.report(state.progress)
                if state.ending is not None:
                    return state.ending
                if state.status == "aborting":
                    watcher.aborting()
        except trio.BrokenResourceError:
            pass
        except ValueError as e:  # not to be understood: it is asked again
            log.warning("worker not understood", job=folder.job_id, error=str(e))
    return None


async def connected(folder: Folder) -> trio.SocketStream:
    """A connection to the worker. OSError: nobody listens."""
    directory = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        # By a short name: a path of a socket has at most 107 bytes.
        await sock.connect(f"/proc/self/fd/{directory}/{folder.socket.name}")
        return trio.SocketStream(sock)
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(directory)
