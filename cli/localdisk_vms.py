"""The VMs that there are, as `leasehold localdisk gc --vms` reads them."""

import sys
from pathlib import Path

from host.local_disk_vms import LIMIT, listed
from protocol.errors import BadParameter

OPTION = "--vms"


def read(name: str) -> list[str]:
    """The ids in a file, or with `-` on standard input. Raises BadParameter (1000)."""
    try:
        content = _content(name)
    except OSError as e:
        raise BadParameter(OPTION, f"{name}: {e.strerror or e}") from None
    return listed(content, OPTION)


def _content(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read(LIMIT + 1)
    with Path(name).open("rb") as file:
        return file.read(LIMIT + 1)
