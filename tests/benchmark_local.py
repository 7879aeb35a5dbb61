"""The part of the benchmark that needs real LVM: copies to local disks, in a guest.

Without hardware acceleration everything is slower there, the floors no less. Where the guest cannot
be booted, that is told.
"""

import base64
import json
import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.benchmark_managed import run
from tests.guest.machine import PYTHON, Disk, booted
from tests.guest.payload import ROOT

MIB = 1 << 20
GIB = 1 << 30
SIZE = 2 * GIB
LARGE = 8 * GIB
STEP = 4 * MIB  # every fourth MiB holds data
TIME = 3600.0  # seconds
ROUNDS = 3


def sources(folder: Path) -> tuple[Disk, Disk, int]:
    """Two disks of the guest whose content is a qcow2 image, and the bytes of data in the first.

    The other one is large and compressed, as templates are shipped: in a guest without acceleration
    its copy takes as long as that of a very large disk, for which this machine has no room.
    """
    large, _ = source(folder, "large", LARGE)
    packed = folder / "packed.disk"
    run("qemu-img", "convert", "-c", "-W", "-O", "qcow2", large.path, packed)
    large.path.unlink()
    _whole(packed)
    plain, data = source(folder, "source", SIZE)
    return plain, Disk("packed", packed, cache="none"), data


def source(folder: Path, name: str, size: int) -> tuple[Disk, int]:
    """A disk of the guest whose content is a qcow2 image, and the bytes of data in it."""
    piece, path = folder / "piece", folder / f"{name}.disk"
    piece.write_bytes(base64.b64encode(os.urandom(MIB))[:MIB])
    run("qemu-img", "create", "-q", "-f", "qcow2", path, size)
    places = range(0, size, STEP)
    writes = [f"write -q -s {piece} {place} {MIB}\n" for place in places]
    run("qemu-io", "-f", "qcow2", path, input="".join(writes))
    _whole(path)
    return Disk(name, path, cache="none"), len(places) * MIB


def _whole(path: Path) -> None:
    """Disks have no halves of a MiB."""
    os.truncate(path, -(-path.stat().st_size // MIB) * MIB)


def local_figures(quick: bool) -> list[bool]:
    """Whether each ratio held."""
    if quick:
        return []
    try:
        with tempfile.TemporaryDirectory(prefix="leasehold-bench-", dir="/var/tmp") as folder:
            lines = measured(Path(folder))
    except (AssertionError, OSError, subprocess.SubprocessError) as e:
        print(f"{'local disks':39} NOT MEASURED: {e}", flush=True)
        return []
    print("\n".join(lines[:-1]), flush=True)
    held: list[bool] = json.loads(lines[-1])
    return held


def measured(folder: Path) -> list[str]:
    """What the guest printed."""
    plain, packed, data = sources(folder)
    empty = [Disk.new(folder, "data", 20 * GIB), Disk.new(folder, "spare", 4 * GIB)]
    disks = [plain, packed, *(replace(disk, cache="none") for disk in empty)]
    with booted(*disks, memory=1536) as guest:
        argv = [PYTHON, "-m", "tests.guest.figures", data, ROUNDS]
        return guest.must(*argv, cwd=ROOT, seconds=TIME).splitlines()
