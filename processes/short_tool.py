"""Run a tool that ends soon, in a small program that does nothing beside it: without trio, whose
import takes longer than such a program runs.

As in processes/tool.py the tool is gone when the call returns, and dies when we do.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from processes.failure import tool_error
from processes.guard import environment, guarded
from protocol.errors import BadOutput, ToolStalled

OUTPUT_LIMIT = 1 << 20
TAIL_LIMIT = 4096  # bytes of the error text that is kept
CHUNK = 1 << 16


def run(argv: Sequence[str], *, seconds: float) -> bytes:
    """Run a tool to its end and return its standard output.

    A daemon that it leaves may keep its standard error. Raises ToolMissing, ToolStalled, BadOutput,
    ToolKilled and the other classes of ToolFailed; whatever a signal handler of ours raises: then
    the tool was ended, or if it was just being started, dies with us.
    """
    command = guarded(argv)
    errors, errors_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        try:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors_in,
                env=environment(),
                start_new_session=True,  # a signal to us is for us
            )
        finally:
            os.close(errors_in)
        try:
            output = _output(argv[0], popen, time.monotonic() + seconds, seconds)
        finally:
            _end(popen)
        if popen.returncode:
            raise tool_error(argv[0], popen.returncode, _tail(errors))
        return output
    finally:
        os.close(errors)


def _output(name: str, popen: "subprocess.Popen[bytes]", until: float, seconds: float) -> bytes:
    """Until it has ended."""
    assert popen.stdout is not None
    output, fd = bytearray(), popen.stdout.fileno()
    while _readable(fd, until) and (chunk := os.read(fd, CHUNK)):
        output += chunk
        if len(output) > OUTPUT_LIMIT:
            raise BadOutput(name, f"more than {OUTPUT_LIMIT} bytes")
    try:
        popen.wait(max(until - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        raise ToolStalled(name, seconds) from None
    return bytes(output)


def _readable(fd: int, until: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(1000 * max(until - time.monotonic(), 0.0)))


def _end(popen: "subprocess.Popen[bytes]") -> None:
    """Nothing of it is left; a daemon that it made left its process group and goes on."""
    with popen:  # closes its pipe and waits
        if popen.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(popen.pid, signal.SIGKILL)


def _tail(errors: int) -> str:
    with suppress(BlockingIOError):
        return os.read(errors, TAIL_LIMIT).decode("utf-8", "replace").strip()
    return ""
