"""The helper programs that attach and detach managed volumes: `managedvolume-helper[-ADAPTER]`.

They are ours or a storage vendor's. Called with one word, connector_info, attach or detach, they
read JSON from standard input, print JSON and exit with 0. Nothing of theirs is trusted: not that
they end, not how much they print, not what. Secrets come to them by standard input alone.
Source: oVirt's managed volume adapters; docs/managed.md.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from processes.tool import Limits, run
from protocol.errors import (
    BadOutput,
    BadParameter,
    ToolFailed,
    ToolKilled,
    ToolMissing,
    ToolStalled,
)
from protocol.managed import checked_adapter

NAME = "managedvolume-helper"
OUTPUT_LIMIT = 1 << 20
_FOLDERS = "/usr/sbin:/sbin"  # with the tools of storage; not on the PATH of a user


@dataclass(frozen=True)
class Outcome:
    """How a call of a helper ended. answer: what it printed, an object.

    failure: None, it succeeded; else why not. uncertain: nobody knows what it has done by then.
    """

    answer: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None
    uncertain: bool = False


class NoHelper(Exception):
    """There is no such program; the text says why."""


def find(adapter: str | None, folders: Iterable[str], ours: Path) -> Path:
    """The helper of an adapter, in the first folder that has one; our own are in the folder `ours`.

    Without an adapter it is our own. Raises NoHelper.
    """
    if adapter is None:
        return _usable(ours / NAME)
    try:
        name = f"{NAME}-{checked_adapter(adapter)}"
    except BadParameter as e:
        raise NoHelper(e.reason) from None
    places = [Path(folder, name) for folder in (*folders, str(ours))]
    for place in places:
        if os.path.lexists(place):
            return _usable(place)
    looked = ", ".join(str(place.parent) for place in places)
    raise NoHelper(f"there is no {name} in any of {looked}")


async def call(
    helper: Path,
    command: str,
    message: Mapping[str, Any] | None,
    *,
    seconds: float,
    environment: Mapping[str, str],
) -> Outcome:
    """Have a helper do one thing. message: None, it gets nothing. seconds: it is ended after that,
    with all that it has started."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), _FOLDERS])
    try:
        output = await run(
            [str(helper), command],
            stdin=b"" if message is None else msgspec.json.encode(message),
            environment={"PATH": path, **environment},
            limits=Limits(seconds=seconds),
            output_limit=OUTPUT_LIMIT,
        )
    except ToolMissing:
        return Outcome(failure="it cannot be executed")
    except ToolStalled:
        reason = f"it did not end in {seconds:g} s, so it was killed"
        return Outcome(failure=reason, uncertain=True)
    except BadOutput as e:
        return Outcome(failure=f"it printed {e.reason}", uncertain=True)
    except ToolKilled as e:
        said = f": {e.detail}" if e.detail else ""
        return Outcome(failure=f"it was killed by signal {e.signal}{said}", uncertain=True)
    except ToolFailed as e:
        return Outcome(failure=e.detail or f"it ended with status {e.status} and said nothing")
    return _read(output, command)


def _read(output: bytes, command: str) -> Outcome:
    if command == "detach":
        return Outcome()  # it has nothing to tell, and programs print the oddest things instead
    try:
        return Outcome(answer=msgspec.json.decode(output, type=dict[str, Any]))
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as e:
        return Outcome(failure=f"it printed no JSON object ({e})", uncertain=True)


def _usable(path: Path) -> Path:
    """Raises NoHelper: it is no file that can be executed."""
    try:
        status = path.stat()
    except OSError as e:
        raise NoHelper(f"{path}: {e.strerror}") from None
    if not stat.S_ISREG(status.st_mode) or not os.access(path, os.X_OK):
        raise NoHelper(f"{path} is no program that can be executed")
    return path
