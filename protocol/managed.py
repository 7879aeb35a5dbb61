"""Managed volumes: what an adapter tells of a connection, and what a host tells of itself.

Engine adapters, the agent of a host and its helper programs speak through these structures. Keys
that we do not know are kept where they pass through us: other vendors' programs read them.
Source: docs/adapters.md.
"""

import re
from typing import Any

import msgspec

from protocol.errors import BadParameter

GIB = 1 << 30
# How the data of a connection is to be read: os-brick's names, and our `file`.
DRIVERS = ("rbd", "iscsi", "lightos", "local", "storpool", "file")
# Part of the name of a program, `NAME-adapter` and `managedvolume-helper-NAME`: nothing but this.
ADAPTER_NAME = r"[a-z0-9][a-z0-9-]{0,62}"


class ConnectionInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a host reaches a volume that was connected for it; connect_volume prints it.

    driver_volume_type: one of DRIVERS, unless another vendor's. data: what the driver reads; it may
    hold secrets, so it is never logged or shown. adapter: the host uses
    `managedvolume-helper-ADAPTER` instead of its own helper.
    """

    driver_volume_type: str
    data: dict[str, Any]
    adapter: str | None = None

    def __repr__(self) -> str:  # what is printed by chance tells no secret
        return f"ConnectionInfo({self.driver_volume_type!r}, ..., adapter={self.adapter!r})"


class Connector(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a host tells of itself so that a volume can be connected for it; connector_info prints.

    host: its name, which makes two connectors one host. ip: its address in the storage network.
    initiator: its iSCSI name (IQN). uuid: its hardware id. nqn: its NVMe name. multipath: are
    several paths made one device? Nothing is for Ceph: each connection gets its own cephx user.
    """

    host: str
    ip: str | None = None
    initiator: str | None = None
    uuid: str | None = None
    nqn: str | None = None
    multipath: bool = False
    platform: str | None = None
    os_type: str | None = None


def gib_of(size: int) -> int:
    """The GiB that hold `size` bytes: managed volumes have whole ones. At least 1."""
    return max(1, -(-size // GIB))


def checked_adapter(name: str) -> str:
    """The name itself. Raises BadParameter (1000) unless it is ADAPTER_NAME."""
    if not re.fullmatch(ADAPTER_NAME, name, re.ASCII):
        raise BadParameter("adapter", f"{name!r:.80} is not a name such as `file` or `my-array`")
    return name
