"""What a command prints: a result on stdout, everything else on stderr.

A reader that went away (a closed pipe, a terminal that hung up) never stops a command: a copy that
goes on must not be torn by its own messages.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protocol import errors

STDOUT = 1
STDERR = 2


@dataclass
class Output:
    """json: one object on stdout and nothing else there. quiet: results and errors only."""

    json: bool = False
    quiet: bool = False
    lost: bool = False  # the result could not be written, and not for want of a reader

    def result(self, value: Mapping[str, Any], text: str) -> None:
        """The result that was asked for: `value` for programs, `text` for people."""
        self._print(as_json(value) if self.json else printable(text, lines=True))

    def done(self, value: Mapping[str, Any], text: str) -> None:
        """Like result, for a command whose result is that it was done: --quiet says no text."""
        if self.json or not self.quiet:
            self.result(value, text)

    def note(self, text: str) -> None:
        """Something to know on the way, on stderr."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Something to know even with --quiet."""
        tell(f"leasehold: {printable(text)}\n")

    def error(self, error: BaseException, data: Mapping[str, Any] | None = None) -> None:
        """The one error of a command; `data` are facts beyond those of the error itself."""
        if self.json:
            described = errors.to_rpc(error)
            # Not in place: the facts of the job hold the same error.
            told = {**described, "data": {**described["data"], **(data or {})}}
            self._print(as_json({"error": told}))
        else:
            self.warn(explained(error))

    def _print(self, text: str) -> None:
        try:
            _print(text)
        except OSError as e:
            self.lost = True
            self.warn(f"the result cannot be written: {e.strerror or e}")


def explained(error: BaseException) -> str:
    """The text of `error` and, where one is known, the way out."""
    from cli.ways_out import way_out

    text, way = errors.to_rpc(error)["message"], way_out(error)
    return f"{text} ({way})" if way else str(text)


def as_json(value: Any) -> str:
    return json.dumps(value, default=str)


def printable(text: str, *, lines: bool = False) -> str:
    """`text` without control characters: names come from hostile images too.

    lines: line ends are kept. Otherwise the text is one line.
    """
    return "".join(
        c if c.isprintable() or (lines and c == "\n") else c.encode("unicode_escape").decode()
        for c in text
    )


def tell(text: str) -> None:
    """Write to stderr; a reader that is gone is nobody's error.

    Not through sys.stderr: a thread that is stuck in a write there holds a lock, over which the
    interpreter would stumble at exit.
    """
    rest = text.encode(errors="backslashreplace")
    try:
        while rest:
            rest = rest[os.write(STDERR, rest) :]
    except OSError:
        _silence(STDERR)


def _print(text: str) -> None:
    """Write a line to stdout; that its reader is gone does not show at exit either.

    Raises OSError for anything else, a full disk above all.
    """
    try:
        print(text, flush=True)
    except (BrokenPipeError, ValueError):  # ValueError: closed
        _silence(STDOUT)
    except OSError:
        _silence(STDOUT)
        raise


def _silence(fd: int) -> None:
    """Let everything that is written to `fd`, or still buffered for it, go nowhere."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, fd)
        os.close(nowhere)


def keep_standard_streams() -> None:
    """Open what we were started without, so that no file of ours gets the number of stderr.

    A message would be written into that file: into a lease, say.
    """
    for fd in (0, STDOUT, STDERR):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is `fd`
