"""A target file that did not exist: created whole or not at all, gone when its copy failed."""

import os
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import trio

from endpoints.disk import Disk, NewFile, identity
from processes import qemu_img
from processes.image_node import Node
from protocol.errors import ImageRefused
from protocol.messages import Format


@asynccontextmanager
async def created(new: NewFile, size: int) -> AsyncGenerator[Disk]:
    """Create the file for the body with a virtual size of `size` bytes, reading as zeros.

    It is made under another name and linked into place, so a crash leaves no half image under the
    name that was asked for, and a file that appeared meanwhile is never replaced. When the body
    fails nothing of the user's is in it: it is removed, if it still is the file that we made.
    Raises ImageRefused when there is such a file now.
    """
    path = new.url.path
    status = await _make(path, new.format, size)
    try:
        yield Disk(
            url=new.url,
            kind="file",
            format=new.format,
            size=size,
            node=node(path, new.format),
            direct=new.direct,
            files=frozenset([identity(status)]),
        )
        await trio.to_thread.run_sync(_sync_folder, path)
    except BaseException:
        _remove(path, status)
        raise


def node(path: str, format: Format) -> Node:
    file = {"driver": "file", "filename": path}
    return {"driver": format, "file": file, **({"backing": None} if format == "qcow2" else {})}


async def _make(path: str, format: Format, size: int) -> os.stat_result:
    folder, name = os.path.split(path)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{name[:40]}.", dir=folder) as private:
            draft = os.path.join(private, "image")
            if format == "raw":
                await trio.to_thread.run_sync(_sparse, draft, size)
            else:
                await qemu_img.create(draft, format, size)
            os.link(draft, path)
            return os.stat(path)
    except FileExistsError:
        raise ImageRefused(path, "it appeared while the copy began") from None
    except OSError as e:
        raise ImageRefused(path, f"cannot be created: {e.strerror or e}") from e


def _sparse(path: str, size: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        os.ftruncate(fd, size)
    finally:
        os.close(fd)


def _sync_folder(path: str) -> None:
    """The name must be on disk as well, or the file is lost by a crash."""
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(path: str, made: os.stat_result) -> None:
    with suppress(OSError):
        if identity(os.stat(path, follow_symlinks=False)) == identity(made):
            os.unlink(path)
