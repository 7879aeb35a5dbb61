"""Ceph images as block devices of the kernel. Source: rbd(8), map and unmap; the kernel's
Documentation/ABI/testing/sysfs-bus-rbd."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from processes.tool import Limits, run
from protocol.errors import BadOutput, ToolFailed, ToolMissing, ToolStalled

SYSFS = Path("/sys/bus/rbd")
TIME = Limits(seconds=60)


async def usable() -> bool:
    """Has the kernel rbd, which is loaded when it is not, and is there the program for it?"""
    if shutil.which("rbd") is None:
        return False
    if not SYSFS.exists():  # noqa: ASYNC240 - not on a disk
        with suppress(ToolFailed, ToolMissing, ToolStalled):
            await run(["modprobe", "-q", "rbd"], limits=TIME)
    return SYSFS.exists()  # noqa: ASYNC240


def devices(pool: str, namespace: str, image: str) -> list[str]:
    """The devices that an image is mapped to, snapshots of it left out."""
    return [
        f"/dev/rbd{entry.name}"
        for entry in _entries()
        if (_said(entry, "pool"), _said(entry, "pool_ns"), _said(entry, "name"))
        == (pool, namespace, image)
        and _said(entry, "current_snap") == "-"
    ]


async def map_(spec: str, *, user: str | None, conf: Path, keyring: Path | None) -> str:
    """Make the image a device; its path.

    Raises the classes of ToolFailed; ToolStalled, BadOutput.
    """
    argv = ["rbd", "map", spec, "--conf", str(conf)]
    argv += ["--id", user] if user else []
    argv += ["--keyring", str(keyring)] if keyring else []
    device = (await run(argv, limits=TIME)).decode("utf-8", "replace").strip()
    if not device.startswith("/dev/rbd"):
        raise BadOutput("rbd", f"{device!r:.80} is no device")
    return device


async def unmap(device: str) -> None:
    """Raises the classes of ToolFailed: somebody has it open, say."""
    await run(["rbd", "unmap", device, "--conf", "/dev/null"], limits=TIME)  # of no cluster


def _entries() -> Iterator[Path]:
    folder = SYSFS / "devices"
    return iter(sorted(folder.iterdir())) if folder.is_dir() else iter(())


def _said(entry: Path, name: str) -> str:
    """An attribute; older kernels have no pool_ns, and no pools with name spaces then."""
    try:
        return (entry / name).read_text().strip()
    except OSError:
        return ""
