"""Both roads of a copy: a file written by qemu-img, and an NBD export written by nbdcopy."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.faults.command import Command, Process, bytes_in, writers
from tests.servers import MIB, pattern, qemu_nbd, raw_image

Road = Literal["qemu-img", "nbdcopy"]
ROADS: tuple[Road, ...] = ("qemu-img", "nbdcopy")
DATA = 6 * MIB  # of the source, at its start; then a hole that a target must have, too
SIZE = 8 * MIB
LIMIT = 8 * MIB  # bytes per second: slow enough for a middle


@dataclass(frozen=True)
class Ends:
    """A source and a target whose content is in the file `disk`."""

    road: Road
    source: Path
    target: str
    disk: Path

    @property
    def copied(self) -> int:
        """Bytes that have arrived, when the disk began empty."""
        return bytes_in(self.disk)

    @property
    def equal(self) -> bool:
        return self.disk.read_bytes() == self.source.read_bytes()

    def spoil(self) -> None:
        """Fill the disk with bytes that no copy may leave there."""
        if self.disk.exists():
            size = self.disk.stat().st_size
            with self.disk.open("r+b") as file:
                file.write(b"\xee" * size)
                file.flush()
                os.fsync(file.fileno())

    def writing(self, command: Command) -> set[Process]:
        """The processes of the command's family, but itself, that can write to the target."""
        if self.road == "nbdcopy":
            return set(command.tools("nbdcopy", self.target))
        return writers(self.disk) & set(command.tools("qemu-img"))


@contextmanager
def ends(
    road: Road, folder: Path, *, exists: bool = True, size: int = SIZE, data: int = DATA
) -> Iterator[Ends]:
    """A fresh source and target. exists: the target is an empty disk, not a file to be made."""
    source = raw_image(folder / "source.raw", size, data=pattern(data))
    disk = folder / "target.raw"
    if road == "nbdcopy" or exists:
        raw_image(disk, size)
    if road == "qemu-img":
        yield Ends(road, source, str(disk), disk)
        return
    with qemu_nbd(disk, folder) as server:
        yield Ends(road, source, server.url, disk)
