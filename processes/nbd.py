"""NBD: facts about a server, a private export of an image, and nbdcopy.

Source: nbdinfo(1), nbdcopy(1), qemu-nbd(8), and the NBD url scheme (nbd project, doc/uri.md).
"""

import re
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import msgspec
import trio

from processes.failure import tool_error
from processes.image_node import Node, ref, secrets
from processes.nbd_url import unix_uri
from processes.private_folder import private_folder
from processes.qemu_img import INSPECT, TICK, Moved, throttled
from processes.tool import BACKGROUND, TERM_WAIT, Tool, run, spawned
from protocol.errors import BadOutput, CannotConnect, FlushFailed, ToolFailed, ToolStalled

START_TIME = 60.0  # seconds until a server of ours must listen; a network volume may open slowly
LOOK = 0.002  # seconds between looks whether it does
_READ_ERROR = re.compile(r"(reading from file failed: .*)")
_PROGRESS = re.compile(r"(\d{1,3})/100")


class Export(msgspec.Struct, frozen=True, rename="kebab"):
    """What a server says of one export; size in bytes.

    can_multi_conn: a flush on one connection holds for what was written on all of them.
    """

    export_size: int
    is_read_only: bool = msgspec.field(name="is_read_only", default=False)
    can_flush: bool = msgspec.field(name="can_flush", default=False)
    can_multi_conn: bool = msgspec.field(name="can_multi_conn", default=False)


class _Answer(msgspec.Struct, frozen=True):
    exports: list[Export]


async def info(uri: str) -> Export:
    """Ask a server about its export. Raises CannotConnect when it does not answer."""
    try:
        output = await run(["nbdinfo", "--json", "--no-content", uri], limits=INSPECT)
    except (ToolFailed, ToolStalled) as e:
        reason = e.detail.removeprefix("nbdinfo: ") if isinstance(e, ToolFailed) else str(e)
        raise CannotConnect(uri, reason) from None
    try:
        return msgspec.json.decode(output, type=_Answer).exports[0]
    except (msgspec.DecodeError, IndexError) as e:
        raise BadOutput("nbdinfo", str(e)) from None


@asynccontextmanager
async def exported(
    node: Node,
    *,
    writable: bool = False,
    limit: int | None = None,
    inherit: Sequence[int],
    term_wait: float = TERM_WAIT,
) -> AsyncGenerator[tuple[str, Tool]]:
    """Serve an image to this host's own tools for the body; yields its url and the server.

    The socket lies in a folder that only we can enter: NBD itself asks for no password.
    limit: bytes per second that may be read from it. term_wait: seconds that the server has to
    close its image before it is killed.
    """
    with private_folder() as folder:
        path = f"{folder}/nbd"
        # Persistent (-t): our look whether it listens counts as a client.
        argv = ["qemu-nbd", "-t", "--shared=0", "--socket", path, "--discard=unmap"]
        if not writable:
            argv.append("--read-only")
            # Else it would read an image that a virtual machine writes: unlike qemu-img, qemu-nbd
            # asks for no lock against that. This filter does nothing but ask.
            node = {"driver": "blkdebug", "image": node, "unshare-child-perms": ["write", "resize"]}
        throttle, node = throttled(node, limit)
        argv += [*throttle, *secrets(node), ref(node)]
        serving = spawned(argv, inherit=inherit, priority=BACKGROUND, term_wait=term_wait)
        async with serving as server:
            await _listening(server, path)
            yield unix_uri(path), server


async def copy(
    source: str,
    target: str,
    moved: Moved,
    *,
    reader: Tool,
    target_is_zero: bool,
    inherit: Sequence[int],
    connections: int = 1,
    counted: bool = True,
) -> None:
    """Copy one export over another and flush it, all in one connection.

    The answer to that flush decides: a server may report a failed flush once only, so a flush
    through another connection would prove nothing. reader: the server of `source`; its counters
    tell of the progress between the steps. connections: to each of the two, where both allow
    several (Export.can_multi_conn). counted: they count what it reads; else `moved` gets how often
    the copy tool got an answer. Raises FlushFailed and the classes of ToolFailed.
    """
    argv = ["nbdcopy", "--flush", "--progress=1", f"--connections={connections}"]
    argv += ["--destination-is-zero"] if target_is_zero else []
    before = reader.bytes_read()  # by its start
    async with spawned([*argv, source, target], inherit=inherit, priority=BACKGROUND) as tool:
        while (piece := await tool.piece(TICK)) is not None:
            found = _PROGRESS.search(piece)
            seen = reader.bytes_read() - before if counted else tool.wakeups()
            moved(float(found[1]) if found else None, seen)
        if status := await tool.wait():
            if status > 0 and ": nbd_flush: " in tool.tail:
                raise FlushFailed(target, tool.tail)
            # A reader that meets an error cuts the tool off instead of answering with it.
            cause = _READ_ERROR.search(reader.tail)
            raise tool_error(tool.name, status, cause[1] if cause else tool.tail)


async def _listening(server: Tool, path: str) -> None:
    """Wait until the server serves its image; raise by class when it ends instead."""
    with trio.move_on_after(START_TIME):
        while not await _greets(path):
            with trio.move_on_after(LOOK) as timer:
                await server.wait()
            if not timer.cancelled_caught:
                raise tool_error(server.name, await server.wait() or 1, server.tail)
        return
    raise ToolStalled(server.name, START_TIME)


async def _greets(path: str) -> bool:
    """qemu-nbd listens before it opens the image, and answers only after that."""
    with trio.socket.socket(socket.AF_UNIX) as client:
        try:
            await client.connect(path)
            return bool(await client.recv(1))
        except OSError:
            return False
