"""Volumes to copy to, one of each kind, on real storage: for tests that look at their content.

What is needed by all volumes of a kind (a daemon, a file system) is made once, by `Storage`.
"""

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ceph_cluster import POOL, CephCluster
from tests.conftest import SEARCH_PATH
from tests.faults.disks import file_system, loop_device
from tests.servers import nbdkit, qemu_nbd, raw_image
from tests.tgt_server import TgtServer, tgt_server

IQN = "iqn.2026-01.org.example:volumes"
SPACE = 8 << 30  # bytes that a file system has for volumes; taken as they are filled
LUN = ("--lun", "1")
TOOLS = {
    "file": ["qemu-img"],
    "device": ["qemu-img", "losetup"],
    "xfs": ["qemu-img", "mkfs.xfs"],
    "btrfs": ["qemu-img", "mkfs.btrfs"],
    "nbd": ["qemu-nbd", "nbdcopy"],
    "iscsi": ["qemu-nbd", "nbdcopy", "tgtd", "tgtadm"],
    "rbd": ["qemu-nbd", "nbdcopy", "ceph-mon", "ceph-mgr", "ceph-osd", "rbd"],
}


@dataclass(frozen=True)
class Volume:
    """url: for the copy. folder: where a source of the copy is to lie. image: the file that its
    content is in; None: `read` fetches it.
    """

    url: str
    folder: Path
    image: Path | None = None
    read: Callable[[], bytes] | None = None
    used: Callable[[], int] | None = None

    @property
    def content(self) -> bytes:
        if self.read is not None:
            return self.read()
        assert self.image is not None
        return self.image.read_bytes()

    @property
    def allocated(self) -> int:
        """Bytes that it takes on its storage."""
        if self.used is not None:
            return self.used()
        assert self.image is not None
        with self.image.open("rb") as file:
            os.fsync(file.fileno())  # some file systems decide late
            return os.fstat(file.fileno()).st_blocks * 512


class Storage:
    """Everything that volumes of all kinds need; started with the first that needs it."""

    def __init__(self, folder: Path, ceph: Callable[[], CephCluster]) -> None:
        self.folder = folder
        self._ceph = ceph
        self._stack = ExitStack()
        self._tgtd: TgtServer | None = None
        self._mounted: dict[str, Path] = {}

    def close(self) -> None:
        self._stack.close()

    @contextmanager
    def volume(
        self, kind: str, size: int, *, old: bytes = b"", offset: int = 0
    ) -> Iterator[Volume]:
        """A volume of `size` bytes that holds `old` at `offset`, and nothing else. Gone afterwards.

        kind: file, device, xfs, btrfs; nbd, "nbd, direct" (past the page cache of its server),
        "nbd, one connection", "nbd, no extents"; iscsi, "iscsi, not thin"; rbd.
        """
        name, _, how = kind.partition(", ")
        parent = self._on(name) if name in {"xfs", "btrfs"} else self.folder
        folder = parent / uuid.uuid4().hex
        folder.mkdir()
        try:
            with self._made(name, how, folder, size, old=old, offset=offset) as made:
                yield made
        finally:
            shutil.rmtree(folder)

    def _made(
        self, name: str, how: str, folder: Path, size: int, *, old: bytes, offset: int
    ) -> AbstractContextManager[Volume]:
        if name == "rbd":
            return self._rbd(folder, size, old, offset)
        image = raw_image(folder / "volume.raw", size, data=old, offset=offset)
        if name == "device":
            return _device(image)
        if name == "nbd":
            return _nbd(image, how)
        if name == "iscsi":
            return self._iscsi(image, thin=how != "not thin")
        return _file(image)

    def _on(self, kind: str) -> Path:
        """A file system whose files can share extents."""
        if kind not in self._mounted:
            options = ("-m", "reflink=1") if kind == "xfs" else ()
            place = self.folder / f"on-{kind}"
            place.mkdir()
            made = file_system(place, kind, SPACE, *options)
            self._mounted[kind] = self._stack.enter_context(made)
        return self._mounted[kind]

    @property
    def tgtd(self) -> TgtServer:
        if self._tgtd is None:
            self._tgtd = self._stack.enter_context(tgt_server())
        return self._tgtd

    @contextmanager
    def _iscsi(self, image: Path, *, thin: bool) -> Iterator[Volume]:
        url = unit(self.tgtd, image, thin=thin)
        try:
            yield Volume(url, image.parent, image)
        finally:
            tgtadm(self.tgtd, "delete", "target", "--force")

    @contextmanager
    def _rbd(self, folder: Path, size: int, old: bytes, offset: int) -> Iterator[Volume]:
        ceph, name = self._ceph(), f"{POOL}/{folder.name}"
        url = f"rbd:{name}:conf={ceph.conf}:keyring={ceph.keyring}"
        ceph.tool("rbd", "create", name, "--size", f"{size}B")
        try:
            if old:
                draft = raw_image(folder / "old", len(old), data=old)
                write = f"write -q -s {draft} {offset} {len(old)}"
                ceph.tool("qemu-io", "-f", "raw", "-c", write, url)

            def read() -> bytes:
                path = folder / "content"
                ceph.tool("rbd", "export", "--no-progress", name, path)
                content = path.read_bytes()
                path.unlink()
                return content

            def used() -> int:
                [image] = ceph.rbd("du", name)["images"]
                taken: int = image["used_size"]
                return taken

            yield Volume(url, folder, read=read, used=used)
        finally:
            ceph.tool("rbd", "rm", "--no-progress", name)


@contextmanager
def _file(image: Path) -> Iterator[Volume]:
    yield Volume(str(image), image.parent, image)


@contextmanager
def _device(image: Path) -> Iterator[Volume]:
    with loop_device(image) as device:
        yield Volume(str(device), image.parent, image)


@contextmanager
def _nbd(image: Path, how: str) -> Iterator[Volume]:
    if how in {"", "direct"}:
        cache = "none" if how else "writeback"
        with qemu_nbd(image, image.parent, cache=cache) as server:
            yield Volume(server.url, image.parent, image)
        return
    filters, settings = {
        "one connection": (["multi-conn"], ["multi-conn-mode=disable"]),
        "no extents": (["noextents"], []),
    }[how]
    plugin = ["file", str(image)]
    with nbdkit(image.parent, plugin, filters=filters, settings=settings) as server:
        yield Volume(server.url, image.parent, image)


@pytest.fixture(scope="module")
def storage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Storage]:
    made = Storage(
        tmp_path_factory.mktemp("storage"), lambda: request.getfixturevalue("ceph_cluster")
    )
    try:
        yield made
    finally:
        made.close()


def unit(server: TgtServer, image: Path, *, thin: bool = True) -> str:
    """The url of a new target, its only one, whose unit 1 is `image`; everybody is let in.

    thin: it can give space back, and tells where it has none.
    """
    tgtadm(server, "new", "target", "-T", IQN)
    tgtadm(server, "new", "logicalunit", *LUN, "-b", str(image))
    tgtadm(server, "update", "logicalunit", *LUN, "--params", f"thin_provisioning={int(thin)}")
    tgtadm(server, "bind", "target", "-I", "ALL")
    return f"iscsi://{server.portal}/{IQN}/1"


def tgtadm(server: TgtServer, op: str, mode: str, *words: str) -> str:
    """Source: tgtadm(8)."""
    argv = ["tgtadm", "--lld", "iscsi", "--op", op, "--mode", mode, "--tid", "1", *words]
    own = {**os.environ, "PATH": SEARCH_PATH, "TGT_IPC_SOCKET": server.socket}
    done = subprocess.run(argv, env=own, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


def tools(kind: str) -> list[str]:
    return TOOLS[kind.partition(", ")[0]]
