"""The format of an image by its first bytes, as qemu-img would guess it.

Formats that may name other files (vmdk above all) must be known here: letting qemu-img look at one
would already open what it names.
Source: the published specifications of the formats; QEMU's own probes for what it accepts.
"""

import re

from storage import qcow2

PROBED = 2048  # bytes that are looked at

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"KDMV", "vmdk"),
    (b"COWD", "vmdk"),
    (b"\xbe\xba\xfe\xca\x00\x00\x00\x00", "vmdk"),  # seSparse
    (b"# Disk DescriptorFile", "vmdk"),
    (b"conectix", "vpc"),
    (b"vhdxfile", "vhdx"),
    (b"LUKS\xba\xbe", "luks"),
    (b"QED\0", "qed"),
    (b"WithoutFreeSpace", "parallels"),
    (b"WithouFreSpacExt", "parallels"),
    (b"Bochs Virtual HD Image", "bochs"),
    (b"#!/bin/sh\n#V2.0 Format\n", "cloop"),
)
_VDI = b"\x7f\x10\xda\xbe"  # at offset 64
# QEMU takes a text for a vmdk descriptor when this is its first line that says something.
_DESCRIPTOR = re.compile(rb"(?:#[^\n]*\n| *\r?\n)*version=[0-9]")


def guess(head: bytes) -> str:
    """The name of the format, "raw" when nothing is recognised; `head`: the first PROBED bytes."""
    if head.startswith(qcow2.MAGIC):
        return "qcow" if head[4:8] == b"\0\0\0\1" else "qcow2"
    for start, format in _STARTS:
        if head.startswith(start):
            return format
    if head[64:68] == _VDI:
        return "vdi"
    if _DESCRIPTOR.match(head[:PROBED]):
        return "vmdk"
    return "raw"
