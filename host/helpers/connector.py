"""What this host tells of itself, so that volumes are connected for it."""

import os
import socket
import sys
from typing import Any

from host.helpers import initiator, os_brick
from host.helpers.failure import Failed
from processes import multipath

_ELSEWHERE = ("192.0.2.1", 9)  # RFC 5737: nobody has this address
HARDWARE_ID = initiator.HARDWARE_ID
NAME = "LEASEHOLD_IDENTITY_NAME"


async def info() -> dict[str, Any]:
    """A protocol.managed.Connector, with what os-brick tells beside that where it is installed.

    os_brick: whether it is.
    """
    told: dict[str, Any] = {}
    has_os_brick = await os_brick.installed()
    if has_os_brick:
        try:
            told = await os_brick.connector_info()
        except Failed as e:
            print(e, file=sys.stderr)  # what we know ourselves is enough for our own drivers
    return {**told, **await _ours(), "os_brick": has_os_brick}


async def _ours() -> dict[str, Any]:
    found = {
        "host": os.environ.get(NAME) or socket.gethostname(),
        "ip": _address(),
        "initiator": initiator.name(),
        "multipath": await multipath.running(),
        "do_local_attach": False,
        "platform": os.uname().machine,
        "os_type": sys.platform,
    }
    if hardware_id := os.environ.get(HARDWARE_ID):
        found["uuid"] = hardware_id
    return found


def _address() -> str:
    """By which this host goes out: nothing is sent. A host without a route has its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
            address: str = probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"
    return address
