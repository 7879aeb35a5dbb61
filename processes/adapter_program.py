"""The programs that manage the volumes of a storage domain: `NAME-adapter`, cinderlib's client.

They are ours or a storage vendor's. Nothing of theirs is trusted: not that they end, not how much
they print, not what. An answer is the first line of their output that begins with the correlation
id or with `error:`. Source: oVirt's engine, ManagedBlockExecutor; docs/adapters.md.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from processes.tool import FOLDERS, Tool, spawned

OUTPUT_LIMIT = 4 << 20
LATE = 0.5  # seconds for the rest of the output of one that has ended: a child may keep it open
DETAIL_LIMIT = 2000  # characters of an error
_ERROR = "error:"


@dataclass(frozen=True)
class Ended:
    """How a call ended. answer: None, there was none. failure: None, it succeeded; else why not.

    garbage: it said that it succeeded, or never got to say, in a way that cannot be read.
    stalled: it was killed because its time was over.
    """

    answer: str | None = field(default=None, repr=False)  # may be a secret
    failure: str | None = None
    garbage: bool = False
    stalled: bool = False


async def call(
    program: str,
    words: Sequence[str],
    *,
    correlation: str,
    seconds: float,
    stdin: bytes = b"",
) -> Ended:
    """Run a program to its end in its own folder; it is ended after `seconds`, with all that it has
    started. words: its arguments; everybody can read them. Raises ToolMissing."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), FOLDERS])
    output = bytearray()
    async with spawned(
        [program, *words], stdin=stdin, environment={"PATH": path}, cwd=os.path.dirname(program)
    ) as tool:
        with trio.move_on_after(seconds):
            if not await _read(tool, output):
                return Ended(failure=f"it printed more than {OUTPUT_LIMIT} bytes", garbage=True)
            status = await tool.wait()
            return _judged(status, bytes(output), tool.tail, correlation)
    return Ended(stalled=True)


async def _read(tool: Tool, output: bytearray) -> bool:
    """Read until it ends; False: it prints too much."""
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            await tool.ended()
            await trio.sleep(LATE)
            nursery.cancel_scope.cancel()

        nursery.start_soon(end)
        while len(output) <= OUTPUT_LIMIT and (chunk := await tool.read()):
            output += chunk
        nursery.cancel_scope.cancel()
    return len(output) <= OUTPUT_LIMIT


def _judged(status: int, output: bytes, errors: str, correlation: str) -> Ended:
    prefix, text = _line(output, correlation)
    if status < 0:
        return Ended(failure=_because(f"it was killed by signal {-status}", errors))
    if status > 0 or prefix == _ERROR:
        # Engines read both outputs as one, so an error may stand in either.
        if prefix != _ERROR:
            prefix, text = _line(errors.encode(), correlation)
        said = text if prefix == _ERROR else ""
        return Ended(failure=said or _because(f"it ended with status {status}", errors))
    return Ended(answer=text if prefix else None)


def _line(output: bytes, correlation: str) -> tuple[str, str]:
    """The prefix of the answer and what follows it; two empty ones without an answer."""
    for line in output.decode("utf-8", "replace").splitlines():
        for prefix in (f"{correlation}:", f"{correlation} ", _ERROR):
            if line.startswith(prefix):
                return prefix, line.removeprefix(prefix).strip()
    return "", ""


def _because(what: str, errors: str) -> str:
    lines = errors.splitlines()
    return f"{what}: {lines[-1][:DETAIL_LIMIT]}" if lines else what
