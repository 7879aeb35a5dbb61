"""The part of the benchmark that copies to managed block storage, and between files of one xfs.

Each copy goes through the whole road, with its lease, beside a plain `qemu-img convert -n` of the
same image to a fresh volume of the same kind. Where a server cannot start, that is told.
"""

import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from protocol.messages import Format
from tests.ceph_cluster import CephCluster, ceph_cluster
from tests.conftest import SEARCH_PATH
from tests.figure import Figure, measured
from tests.servers import MIB
from tests.volumes import Storage, tools

GIB = 1 << 30
CLUSTER = 64 << 10  # of qcow2: virtual machines write here and there, and get these
LAYERS = 3
Copy = Callable[[Path, Format, str], Awaitable[None]]
"""Copies an image of a format to a raw target, as a job with a lease."""


def chain(folder: Path) -> Path:
    """Three qcow2 images of 2 GiB: every other cluster holds data, of which each has a third."""
    piece = folder / "piece"
    piece.write_bytes(os.urandom(CLUSTER))
    backing: list[str] = []
    image = piece
    for layer in range(LAYERS):
        image = folder / f"layer{layer}.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", *backing, image, 2 * GIB)
        places = range(2 * layer * CLUSTER, 2 * GIB, 2 * LAYERS * CLUSTER)
        writes = [f"write -q -s {piece} {place} {CLUSTER}\n" for place in places]
        run("qemu-io", "-f", "qcow2", image, input="".join(writes))
        backing = ["-b", str(image), "-F", "qcow2"]
    return image


def half_full(folder: Path) -> Path:
    """A raw image of 4 GiB with 2 GiB of data."""
    return raw(folder, 4 * GIB, [0, 2 * GIB], GIB)


def mostly_empty(folder: Path) -> Path:
    """A raw image of 100 GiB with 16 MiB of data."""
    return raw(folder, 100 * GIB, [number * 6 * GIB for number in range(16)], MIB)


def raw(folder: Path, size: int, places: list[int], length: int) -> Path:
    path = folder / f"{size}.raw"
    with path.open("wb") as file:
        file.truncate(size)
        for place in places:
            file.seek(place)
            for _ in range(0, length, MIB):
                file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())
    return path


def run(*argv: object, input: str = "") -> None:
    words = [str(word) for word in argv]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, input=input.encode())


@dataclass(frozen=True)
class Case:
    """Copies of an image to volumes of a kind (tests.volumes). limit: of a plain one's time."""

    title: str
    image: Callable[[Path], Path]
    kind: str
    size: int
    limit: float


CASES = [
    Case("2 GiB qcow2 chain to NBD", chain, "nbd, direct", 2 * GIB, 0.5),
    Case("2 GiB qcow2 chain to iSCSI", chain, "iscsi", 2 * GIB, 0.6),
    Case("2 GiB qcow2 chain to RBD", chain, "rbd", 2 * GIB, 0.6),
    Case("4 GiB raw to raw on one xfs", half_full, "xfs", 4 * GIB, 0.15),
    Case("100 GiB mostly empty, thin volume", mostly_empty, "nbd, direct", 100 * GIB, 0.2),
]


async def managed_figures(folder: Path, copy: Copy, rounds: int) -> list[bool]:
    """Whether each ratio held that can be measured here."""
    with ExitStack() as stack:
        cluster: list[CephCluster] = []

        def ceph() -> CephCluster:
            if not cluster:
                cluster.append(stack.enter_context(ceph_cluster()))
            return cluster[0]

        storage = Storage(folder, ceph)
        stack.callback(storage.close)
        held = [await _measured(case, storage, copy, rounds) for case in CASES]
    return [one for one in held if one is not None]


async def _measured(case: Case, storage: Storage, copy: Copy, rounds: int) -> bool | None:
    try:
        missing = [name for name in tools(case.kind) if not shutil.which(name, path=SEARCH_PATH)]
        assert not missing, f"not installed: {', '.join(missing)}"
        with storage.volume(case.kind, MIB) as volume:  # whatever it needs is started with it
            image = case.image(storage.folder if case.kind != "xfs" else volume.folder.parent)
    except (AssertionError, OSError, subprocess.SubprocessError) as e:
        print(f"{case.title:39} NOT MEASURED: {e}", flush=True)
        return None
    format: Format = "qcow2" if image.suffix == ".qcow2" else "raw"
    with ExitStack() as volumes:
        url = ""

        async def fresh(number: int) -> None:
            nonlocal url
            volumes.close()
            url = volumes.enter_context(storage.volume(case.kind, case.size)).url
            os.sync()

        async def work(number: int) -> None:
            await copy(image, format, url)

        async def plain(number: int) -> None:
            argv = ["qemu-img", "convert", "-n", "-f", format, "-O", "raw", str(image), url]
            await trio.to_thread.run_sync(partial(subprocess.run, argv, check=True))

        floor = "plain qemu-img convert -n"
        return await measured(
            Figure(case.title, floor, work, plain, case.limit, rounds, before=fresh)
        )
