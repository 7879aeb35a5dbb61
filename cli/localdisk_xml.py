"""`leasehold localdisk xml`: the XML of a libvirt domain, with local disks."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.command import command, stoppable
from cli.localdisk_parameters import VOLUME
from cli.output import Output

GROUP = "ovirt-local"
STDIN, STDOUT = 0, 1
CHUNK = 1 << 16


def register(app: typer.Typer) -> None:
    """Add the command to `leasehold localdisk`."""
    command(app, "xml", example=f"localdisk xml vda={VOLUME} < vm.xml > local.xml")(xml)


@stoppable
async def xml(
    out: Output,
    disks: Annotated[
        list[str],
        typer.Argument(
            metavar="DISK=VOLUME",
            help="A disk, by its name in the VM (vda) or its source (a path, or the name of a"
            " network volume), and the local disk that it is to be on: the id of the volume, or"
            " the path of its device.",
        ),
    ],
    *,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Read this instead of standard input."),
    ] = None,
    volume_group: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            envvar="LEASEHOLD_LOCALDISK_VOLUME_GROUP",
            help="The volume group of the local disks.",
        ),
    ] = GROUP,
) -> int:
    """Read the XML of a libvirt domain, and print it with disks that are local.

    Type, format and source of these disks change, and the chain of their images goes; every other
    byte stays. Nothing is looked up and nothing is copied: `leasehold localdisk prepare` does that.
    """
    import trio

    from host.domain_xml import LIMIT, localised

    devices = _devices(disks, volume_group)
    # In a thread, so that a signal is heard though nobody writes to standard input.
    text = await trio.to_thread.run_sync(_read, file, LIMIT, abandon_on_cancel=True)
    changed = localised(text, devices)
    if not out.json:
        return _write(out, changed)
    named = [{"disk": disk, "path": path} for disk, path in devices.items()]
    out.result({"xml": changed.decode(), "disks": named}, "")
    return 0


def _devices(disks: list[str], group: str) -> dict[str, str]:
    """Raises BadParameter (1000)."""
    import re

    from protocol.errors import BadParameter

    if not re.fullmatch(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]*", group) or group in (".", ".."):
        raise BadParameter("--volume-group", f"{group!r:.80} is not the name of a volume group")
    devices: dict[str, str] = {}
    for one in disks:
        disk, equals, volume = one.rpartition("=")  # a source may have one, too
        if not disk or not equals:
            raise BadParameter("DISK=VOLUME", f"{one!r:.200}: a disk and a volume are needed")
        if disk in devices:
            raise BadParameter("DISK=VOLUME", f"{disk!r:.200} is named twice")
        devices[disk] = _device(volume, group)
    return devices


def _device(volume: str, group: str) -> str:
    from uuid import UUID

    from protocol.errors import BadParameter

    plain = volume.isprintable() and ".." not in volume.split("/")
    if volume.startswith("/dev/") and plain and not volume.endswith("/"):
        return volume
    try:
        return f"/dev/{group}/{UUID(volume)}"
    except ValueError:
        reason = f"{volume!r:.200} is neither the id of a volume nor the path of a device"
        raise BadParameter("DISK=VOLUME", reason) from None


def _read(file: Path | None, limit: int) -> bytes:
    """One byte more than the limit at the most: then it is too long. Raises BadParameter (1000)."""
    from protocol.errors import BadParameter

    parts, rest = [], limit + 1
    try:
        fd = STDIN if file is None else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while rest and (part := os.read(fd, min(rest, CHUNK))):
                parts.append(part)
                rest -= len(part)
        finally:
            if file is not None:
                os.close(fd)
    except (OSError, ValueError) as e:
        name = "standard input" if file is None else "--file"
        raise BadParameter(name, str(e)) from None
    return b"".join(parts)


def _write(out: Output, text: bytes) -> int:
    """As it is, without a line end of ours; the exit code. A reader that goes away is no error."""
    rest = memoryview(text)
    try:
        while rest:
            rest = rest[os.write(STDOUT, rest) :]
    except BrokenPipeError:
        return 0
    except OSError as e:
        out.warn(f"the result cannot be written: {e.strerror or e}")
        return 1
    return 0
