"""The VMs that there are, as `leasehold localdisk gc --vms` reads them."""

import sys
from pathlib import Path
from uuid import UUID

from protocol.errors import BadParameter

LIMIT = 4 << 20  # bytes
OPTION = "--vms"


def read(name: str) -> list[str]:
    """The ids in a file, or with `-` on standard input.

    Raises BadParameter (1000) for what is no UUID, and for none at all: that is rather a command
    that failed than a host whose VMs are all gone, and what they have written would be removed.
    """
    try:
        text = _text(name)
    except (OSError, ValueError) as e:
        reason = (e.strerror if isinstance(e, OSError) else None) or "it is no text"
        raise BadParameter(OPTION, f"{name}: {reason}") from None
    found = [_id(line.strip()) for line in text.splitlines() if line.strip()]
    if not found:
        raise BadParameter(
            OPTION,
            "it names no VM; when there are none at all, remove their disks one by one with"
            " `leasehold localdisk remove`",
        )
    return found


def _text(name: str) -> str:
    if name == "-":
        content = sys.stdin.buffer.read(LIMIT + 1)
    else:
        with Path(name).open("rb") as file:
            content = file.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise BadParameter(OPTION, f"it is longer than {LIMIT} bytes")
    return content.decode()


def _id(line: str) -> str:
    try:
        return str(UUID(line))
    except ValueError:
        raise BadParameter(OPTION, f"{line!r:.80} is no id of a VM") from None
