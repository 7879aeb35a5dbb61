"""The hardware id of this host: the UUID that job records name the host by."""

import hashlib
import uuid
from pathlib import Path

from cli.home import home, locked, usable, write_atomically
from protocol.errors import BadParameter

PRODUCT_UUID = Path("/sys/class/dmi/id/product_uuid")
MACHINE_ID = Path("/etc/machine-id")
GENERATED = "hardware-id"  # in the home


async def hardware_id() -> str:
    """The UUID of the machine; where it has none, one that stays the same on this installation.

    A machine-id is confidential (machine-id(5)), so only a UUID derived from it is used. Last
    comes one that is made once and kept in the home.
    """
    return _product_uuid(PRODUCT_UUID) or _derived(MACHINE_ID) or await _kept(home())


def _product_uuid(path: Path) -> str | None:
    """None: not readable (it is root's), no UUID, or one of those that mean "not set"."""
    found = _uuid(_text(path))
    if found is None or len(set(found.bytes)) == 1:  # all zeros, all ones: boards without an id
        return None
    return str(found)


def _derived(path: Path) -> str | None:
    machine_id = _uuid(_text(path))  # 32 hexadecimal digits
    if machine_id is None or machine_id.int == 0:
        return None
    digest = hashlib.sha256(b"leasehold hardware id\0" + machine_id.bytes).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


async def _kept(folder: Path) -> str:
    path = folder / GENERATED
    async with locked(folder):
        with usable(path):
            if not path.exists():
                write_atomically(path, f"{uuid.uuid4()}\n".encode())
        found = _uuid(_text(path))
    if found is None:
        raise BadParameter("LEASEHOLD_HOME", f"{path} is damaged: write one UUID into it")
    return str(found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
