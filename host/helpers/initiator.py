"""The iSCSI name of this host."""

import os
import re
import socket
from pathlib import Path

FILE = Path("/etc/iscsi/initiatorname.iscsi")
# The name space in which QEMU's own initiator names itself, see qemu-img(1).
PREFIX = "iqn.2008-11.org.linux-kvm"
SAID = "LEASEHOLD_IDENTITY_INITIATOR"
HARDWARE_ID = "LEASEHOLD_IDENTITY_HARDWARE_ID"
_LINE = re.compile(r"^[ \t]*InitiatorName[ \t]*=[ \t]*([A-Za-z0-9.:-]+)[ \t]*$", re.MULTILINE)


def name() -> str:
    """The one that was said, else that of open-iscsi, else one that is made of the host's id."""
    if said := os.environ.get(SAID):
        return said
    try:
        if found := _LINE.search(FILE.read_text(encoding="ascii")):
            return found[1]
    except (OSError, ValueError):
        pass
    return name_of(os.environ.get(HARDWARE_ID) or socket.gethostname())


def name_of(own: str) -> str:
    """The name of the host that calls itself so."""
    return f"{PREFIX}:{re.sub(r'[^a-z0-9.:-]', '-', own.lower())}"
