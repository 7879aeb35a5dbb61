"""The iSCSI initiator of the kernel, told what to do by open-iscsi. Source: iscsiadm(8).

Secrets of CHAP are written into the record of the node and never stand in a command.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from processes.tool import Limits, run
from protocol.errors import BadOutput, ToolFailed, ToolMissing, ToolStalled

TRANSPORT = Path("/sys/class/iscsi_transport/tcp")
SESSIONS = Path("/sys/class/iscsi_session")
HOSTS = Path("/sys/class/scsi_host")
BLOCK = Path("/sys/block")
CONNECTIONS = Path("/sys/class/iscsi_connection")
MOUNTS = Path("/proc/self/mountinfo")
RECORDS = (Path("/etc/iscsi/nodes"), Path("/var/lib/iscsi/nodes"))  # Debian's, and others'
TIME = Limits(seconds=60)
SESSION_EXISTS = 15  # exit statuses
NO_OBJECTS = 21
_AUTH = "node.session.auth."


@dataclass(frozen=True)
class Node:
    """portal: HOST:PORT, an IPv6 address in brackets."""

    target: str
    portal: str

    @property
    def argv(self) -> list[str]:
        return ["iscsiadm", "-m", "node", "-T", self.target, "-p", self.portal]


@dataclass(frozen=True)
class Credentials:
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, ...)"


async def usable() -> bool:
    """Has the kernel an initiator, which is loaded when it is not, and is there its program?"""
    if shutil.which("iscsiadm") is None:
        return False
    if not TRANSPORT.exists():  # noqa: ASYNC240 - not on a disk
        with suppress(ToolFailed, ToolMissing, ToolStalled):
            await run(["modprobe", "-q", "iscsi_tcp"], limits=TIME)
    return TRANSPORT.exists()  # noqa: ASYNC240


async def make_record(node: Node, credentials: Credentials | None) -> None:
    """Write down how to reach a node: it is not logged in to at the start of the host, and of its
    units only those come that are asked for.

    Raises the classes of ToolFailed; ToolStalled, BadOutput, OSError.
    """
    await run([*node.argv, "-o", "new"], limits=TIME)
    for name in ("node.startup", "node.session.scan"):
        await run([*node.argv, "-o", "update", "-n", name, "-v", "manual"], limits=TIME)
    if credentials is None:
        return
    records = list(_records(node))
    if not records:
        raise BadOutput("iscsiadm", f"it wrote no record of {node.target}")
    for record in records:
        _authenticate(record, credentials)


async def log_in(node: Node) -> None:
    """Begin a session, unless there is one. Raises the classes of ToolFailed; ToolStalled."""
    try:
        await run([*node.argv, "--login"], limits=TIME)
    except ToolFailed as e:
        if e.status != SESSION_EXISTS:
            raise


def scan(node: Node, lun: int) -> None:
    """Have the kernel look for one unit in the sessions of a node. Raises OSError."""
    for session in _sessions(node):
        host = (session / "device").resolve().parent.name
        (HOSTS / host / "scan").write_text(f"0 0 {lun}")  # channel, target, unit


async def log_out(node: Node) -> None:
    """End the session, if there is one, and forget the record."""
    for action in (["--logout"], ["-o", "delete"]):
        try:
            await run([*node.argv, *action], limits=TIME)
        except ToolFailed as e:
            if e.status != NO_OBJECTS:
                raise


def disks(node: Node, lun: int | None = None) -> list[str]:
    """The disks, such as `sda`, that came by the sessions of a node, or those of one unit."""
    found = []
    for session in _sessions(node):
        units = (session / "device").glob(f"target*/*:*:*:{'*' if lun is None else lun}/block/*")
        found += sorted(unit.name for unit in units)
    return found


def in_use(disk: str) -> bool:
    """Is something made of a disk or of a part of it, or mounted? The kernel would forget it all
    the same. Source: sysfs, BLOCK/holders; proc(5), mountinfo."""
    entry = BLOCK / disk
    places = [entry, *(part.parent for part in entry.glob("*/partition"))]
    if any(next((place / "holders").glob("*"), None) for place in places):
        return True
    numbers = {_said(place, "dev") for place in places} - {""}
    return any(line.split()[2] in numbers for line in MOUNTS.read_text().splitlines())


def remove(disk: str) -> None:
    """Have the kernel forget a disk that nobody has open. Raises OSError."""
    with suppress(FileNotFoundError):
        (BLOCK / disk / "device" / "delete").write_text("1")


def _sessions(node: Node) -> list[Path]:
    return [
        session
        for session in (sorted(SESSIONS.iterdir()) if SESSIONS.is_dir() else ())
        if _said(session, "targetname") == node.target and node.portal in _portals(session)
    ]


def _portals(session: Path) -> set[str]:
    """Of the connections of a session; as they were asked for and as they are."""
    number = session.name.removeprefix("session")
    found = set()
    for connection in CONNECTIONS.glob(f"connection{number}:*"):
        for kind in ("persistent_", ""):
            address = _said(connection, f"{kind}address")
            port = _said(connection, f"{kind}port")
            found.add(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
    return found


def _records(node: Node) -> Iterator[Path]:
    """The files of a node: NODES/TARGET/ADDRESS,PORT[,GROUP], which may be a folder of them."""
    address, _, port = node.portal.rpartition(":")
    for folder in RECORDS:
        for found in (folder / node.target).glob(f"{_literal(address.strip('[]'))},{port}*"):
            yield from (found.iterdir() if found.is_dir() else [found])


def _literal(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _authenticate(record: Path, credentials: Credentials) -> None:
    """Write the secret into a record, which only root reads."""
    lines = [one for one in record.read_text().splitlines() if not one.startswith(_AUTH)]
    end = next((at for at, one in enumerate(lines) if one.startswith("# END")), len(lines))
    lines[end:end] = [
        f"{_AUTH}authmethod = CHAP",
        f"{_AUTH}username = {credentials.user}",
        f"{_AUTH}password = {credentials.password}",
    ]
    os.chmod(record, 0o600)
    record.write_text("\n".join([*lines, ""]))


def _said(entry: Path, name: str) -> str:
    try:
        return (entry / name).read_text().strip()
    except OSError:
        return ""
