"""Run a tool: gone when the body is left, dead when we are, never through a shell."""

import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import trio

from processes import guard
from processes.failure import tool_error
from processes.guard import (
    BACKGROUND,
    FOLDERS,
    NO_LIMITS,
    NORMAL,
    Limits,
    Priority,
    find,
    guarded,
)
from protocol.errors import BadOutput, ToolStalled

__all__ = [
    "BACKGROUND",
    "FOLDERS",
    "NORMAL",
    "NO_LIMITS",
    "PYTHON",
    "TERM_WAIT",
    "Limits",
    "Priority",
    "Tool",
    "find",
    "run",
    "spawned",
]

TERM_WAIT = 2.0  # seconds between SIGTERM and SIGKILL
PIECE_LIMIT = 4096  # characters of one line of progress
TAIL_LIMIT = 4096  # characters of the error text that is kept
OUTPUT_LIMIT = 1 << 20
CHUNK = 1 << 16
FIRST_GLANCE = 0.01  # seconds

PYTHON = os.path.realpath(sys.executable)
_LINE_END = re.compile(rb"[\r\n]+")


class Tool:
    """A running tool. Only the task that started it may wait for it."""

    def __init__(
        self, name: str, popen: subprocess.Popen[bytes], errors: int, term_wait: float
    ) -> None:
        assert popen.stdout is not None
        self.name = name
        self._term_wait = term_wait
        self.pid = popen.pid
        self._popen = popen
        self._pidfd = os.pidfd_open(popen.pid)
        self._stdout = trio.lowlevel.FdStream(os.dup(popen.stdout.fileno()))
        popen.stdout.close()
        self._errors = errors
        self._tail = b""
        self._rest = b""
        self._pieces: deque[str] = deque()
        self._ended = False
        self._pause = FIRST_GLANCE

    @property
    def running(self) -> bool:
        return self._popen.returncode is None

    async def read(self) -> bytes:
        """The next bytes of its standard output; empty at the end."""
        return await self._stdout.receive_some(CHUNK)

    async def piece(self, tick: float) -> str | None:
        """The next piece of standard output, split at CR and LF; None at the end.

        An empty piece after `tick` s of silence, so that the caller can look at the counters.
        """
        with trio.move_on_after(tick):
            while not self._pieces and not self._ended:
                self._split(await self.read())
        if self._pieces:
            return self._pieces.popleft()
        return None if self._ended else ""

    async def glance(self, longest: float) -> list[str] | None:
        """What it has printed since the last glance, in pieces, perhaps none; None at the end.

        Returns after `longest` s, earlier in the beginning, or at its end. Nobody waits for what it
        prints meanwhile: a tool that wakes us with each piece of progress takes a hundredth longer
        for a gigabyte. One that prints more than a pipe holds in that time waits for us.
        """
        with trio.move_on_after(min(self._pause, longest)) as waiting:
            await self.ended()
        self._pause *= 2
        with suppress(BlockingIOError):
            while chunk := os.read(self._stdout.fileno(), CHUNK):
                self._split(chunk)
        pieces = list(self._pieces)
        self._pieces.clear()
        return pieces if pieces or waiting.cancelled_caught else None

    def _split(self, chunk: bytes) -> None:
        *lines, rest = _LINE_END.split(self._rest + chunk)
        self._ended = not chunk
        if self._ended and rest:
            lines.append(rest)
        self._rest = rest[-PIECE_LIMIT:]
        self._pieces.extend(_text(line)[:PIECE_LIMIT] for line in lines if line)

    def bytes_read(self) -> int:
        """Bytes that it has read through system calls; 0 once it has ended."""
        return self._counter("rchar")

    def bytes_written(self) -> int:
        """Bytes that it has written through system calls; 0 once it has ended."""
        return self._counter("wchar")

    def wakeups(self) -> int:
        """How often its threads have waited for something that then came; 0 once it has ended.

        It grows with every answer of a server, whose bytes the counters of files do not show.
        Source: proc(5), /proc/pid/status, voluntary_ctxt_switches.
        """
        total = 0
        with suppress(OSError):  # threads come and go
            for status in Path(f"/proc/{self.pid}/task").glob("*/status"):
                _, _, rest = status.read_text().partition("\nvoluntary_ctxt_switches:")
                total += int(rest.split(maxsplit=1)[0])
        return total

    def _counter(self, name: str) -> int:
        """Source: proc(5), /proc/pid/io. A short write of the tool to itself counts too."""
        try:
            text = Path(f"/proc/{self.pid}/io").read_text()
        except OSError:
            return 0
        return int(dict(line.split(": ", 1) for line in text.splitlines())[name])

    @property
    def tail(self) -> str:
        """The beginning of what it wrote to standard error, bounded."""
        if len(self._tail) < TAIL_LIMIT:
            with suppress(BlockingIOError):
                self._tail += os.read(self._errors, TAIL_LIMIT - len(self._tail))
        return _text(self._tail).strip()

    async def wait(self) -> int:
        """Wait until it was reaped; its exit status, or minus the signal that ended it.

        The pidfd becomes readable when every thread is gone, so nothing of it can still write.
        """
        if self.running:
            await trio.lowlevel.wait_readable(self._pidfd)
            self._popen.wait()
        status: int = self._popen.returncode
        return status

    async def ended(self) -> None:
        """Wait until it has ended, but let it be reaped by who started it."""
        if self.running:
            await trio.lowlevel.wait_readable(self._pidfd)

    async def check(self) -> None:
        """Wait for its end; raise by class unless it succeeded."""
        if status := await self.wait():
            raise tool_error(self.name, status, self.tail)

    async def stop(self) -> None:
        """End it and what it started: SIGTERM, then SIGKILL. Shielded and without a limit: a writer
        that lives keeps its lease, so nobody may go on before it was reaped.

        A daemon that it made left its process group and goes on.
        """
        with trio.CancelScope(shield=True):
            if self.running:
                self._signal(signal.SIGTERM)
                with trio.move_on_after(self._term_wait):
                    # Not reaped yet, so that the number of its group is still its own.
                    await trio.lowlevel.wait_readable(self._pidfd)
                self._signal(signal.SIGKILL)
                await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        """To its whole process group, whose leader it is."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            # Root's, through sudo. It comes to its end, at the next thing that it prints at latest.
            self._stdout.close()

    async def close(self) -> None:
        try:
            await self.stop()
        finally:
            os.close(self._pidfd)
            os.close(self._errors)
            self._stdout.close()


@asynccontextmanager
async def spawned(
    argv: Sequence[str],
    *,
    inherit: Sequence[int] = (),
    limits: Limits = NO_LIMITS,
    priority: Priority = NORMAL,
    stdin: bytes = b"",
    environment: Mapping[str, str] = {},
    cwd: str | None = None,
    term_wait: float | None = None,
) -> AsyncGenerator[Tool]:
    """Run a tool for the body; it was reaped before anything after the body happens.

    inherit: descriptors that the tool keeps open, such as that of the lease that covers it.
    stdin: what it reads, whole. environment: what it has besides the few variables that every tool
    gets. term_wait: seconds between SIGTERM and SIGKILL, TERM_WAIT unless given. Standard error is
    kept up to a bound, and secrets never belong into `argv`: everybody can read it.
    `limits.seconds` is not looked at here: see `run`.
    """
    command = guarded(argv, limits, priority)
    errors, errors_in = os.pipe2(os.O_CLOEXEC)
    # Not blocking at either end: a tool that prints more than the pipe holds must not hang.
    os.set_blocking(errors, False)
    os.set_blocking(errors_in, False)
    try:
        # In this thread on purpose, not in a worker thread: the signal at the parent's death
        # follows the *thread* that forked, and trio's worker threads end after ten idle seconds.
        with _input(stdin) as stdin_fd:
            popen = subprocess.Popen(  # noqa: ASYNC220 - see above; it takes a millisecond
                command,
                stdin=stdin_fd,
                stdout=subprocess.PIPE,
                stderr=errors_in,
                pass_fds=inherit,
                env={**guard.environment(), **environment},
                cwd=cwd,
                start_new_session=True,  # Ctrl-C at the terminal is for us, not for the tool
            )
        wait = TERM_WAIT if term_wait is None else term_wait
        tool = _adopted(argv[0], popen, errors, wait)
    except BaseException:
        os.close(errors)
        raise
    finally:
        os.close(errors_in)
    try:
        yield tool
    finally:
        await tool.close()


async def run(
    argv: Sequence[str],
    *,
    inherit: Sequence[int] = (),
    limits: Limits = NO_LIMITS,
    output_limit: int = OUTPUT_LIMIT,
    stdin: bytes = b"",
    environment: Mapping[str, str] = {},
) -> bytes:
    """Run a tool to its end and return its standard output.

    Raises ToolMissing, ToolStalled (limits.seconds), BadOutput (more than output_limit bytes),
    ToolKilled and the other classes of ToolFailed.
    """
    output = bytearray()
    seconds = float("inf") if limits.seconds is None else limits.seconds
    async with spawned(
        argv, inherit=inherit, limits=limits, stdin=stdin, environment=environment
    ) as tool:
        with trio.move_on_after(seconds):
            while chunk := await tool.read():
                output += chunk
                if len(output) > output_limit:
                    raise BadOutput(argv[0], f"more than {output_limit} bytes")
            await tool.check()
            return bytes(output)
    raise ToolStalled(argv[0], seconds)


@contextmanager
def _input(content: bytes) -> Iterator[int]:
    """A descriptor to read `content` from; it lies in memory and has no name."""
    if not content:
        yield subprocess.DEVNULL
        return
    with os.fdopen(os.memfd_create("stdin"), "w+b") as file:
        file.write(content)
        file.flush()
        file.seek(0)
        yield file.fileno()


def _adopted(name: str, popen: subprocess.Popen[bytes], errors: int, term_wait: float) -> Tool:
    try:
        return Tool(name, popen, errors, term_wait)
    except BaseException:  # no descriptor is left, say: it could not be watched
        with popen:  # closes its pipe and waits
            popen.kill()
        raise


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
