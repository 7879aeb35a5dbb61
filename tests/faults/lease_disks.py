"""A storage domain on a disk of its own that can break: as a whole, or one sector of it.

An ext4 on a loop device over a file of nbdfuse(1), whose bytes a server of nbdkit(1) gives, or
refuses. What the lease code sees is a real error of a real device. All need root.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from endpoints.domain import create_domain, open_store
from storage import domain as domains
from tests.faults.copies import Copies
from tests.faults.disks import fuse_file, loop_device, need_root
from tests.servers import MIB, Server, nbdkit, tool

SIZE = 80 * MIB  # a domain has 32 MiB of mailboxes
LEASES = 8
# linux/fs.h
_FIBMAP, _FIGETBSZ = 1, 2


@dataclass(frozen=True)
class LeaseDisk:
    """image: all bytes of the disk. mount: where its file system is, while it is in use."""

    image: Path
    mount: Path

    @classmethod
    def made(cls, folder: Path) -> "LeaseDisk":
        need_root()
        image = folder / "leases.ext4"
        with image.open("wb") as file:
            file.truncate(SIZE)
        tool(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", str(image)])
        mount = folder / "lease disk"
        mount.mkdir()
        return cls(image, mount)

    @contextmanager
    def healthy(self) -> Iterator[None]:
        """Use the disk without anything in between."""
        with loop_device(self.image) as device, self._mounted(device):
            yield

    @contextmanager
    def behind(self, server: Server, folder: Path) -> Iterator[None]:
        """Use the disk as `server` gives it; heal that before the end."""
        with (
            fuse_file(server, folder) as file,
            loop_device(file, "--direct-io=on") as device,
            self._mounted(device),
        ):
            yield

    @contextmanager
    def _mounted(self, device: Path) -> Iterator[None]:
        tool(["mount", str(device), str(self.mount)])
        try:
            yield
        finally:
            if os.path.ismount(self.mount):
                tool(["umount", str(self.mount)])

    async def create(self) -> Copies:
        """Make the domain; the disk is in use."""
        domain = await create_domain(str(self.mount), leases=LEASES)
        return Copies(domain, await open_store(domain))

    async def open(self) -> Copies:
        """The domain that was made."""
        [domain] = domains.find(str(self.mount))
        return Copies(domain, await open_store(domain))

    def place(self, path: Path | str, offset: int) -> int:
        """Where on the disk the byte of a file is. Source: the ioctl FIBMAP of linux/fs.h."""
        with open(path, "rb") as file:
            block = int(struct.unpack("i", fcntl.ioctl(file, _FIGETBSZ, bytes(4)))[0])
            number = struct.pack("i", offset // block)
            found = struct.unpack("i", fcntl.ioctl(file, _FIBMAP, number))[0]
        assert found, f"{path} has no block at {offset}"
        return int(found) * block + offset % block


@contextmanager
def bad_sector(
    folder: Path, image: Path, place: int, *, on: Literal["read", "write"]
) -> Iterator[Server]:
    """Serve a disk of which the 512 bytes at `place` cannot be read, or not be written (EIO)."""
    hit = f'[ "$4" -lt {place + 512} ] && [ $(( $4 + $3 )) -gt {place} ]'
    fail = f"if {hit}; then echo 'EIO a bad sector' >&2; exit 1; fi"
    methods = {
        "get_size": f"stat -c %s {image}",
        "pread": f"dd if={image} bs=1M skip=$4 count=$3 iflag=count_bytes,skip_bytes",
        "pwrite": f"dd of={image} bs=1M seek=$4 oflag=seek_bytes conv=notrunc",
        "can_write": "exit 0",
        "can_flush": "exit 0",
        "flush": "exit 0",
    }
    method = {"read": "pread", "write": "pwrite"}[on]
    methods[method] = f"{fail}; {methods[method]}"
    with nbdkit(folder, ["eval", *(f"{name}={script}" for name, script in methods.items())]) as s:
        yield s


def fill(folder: Path) -> Path:
    """Take all the space that the file system of `folder` has left."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as e:
                assert e.errno == errno.ENOSPC  # noqa: PT017 - it ends in no other way
        os.fsync(file.fileno())
    return filler
