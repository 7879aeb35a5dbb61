"""Image safety: an image is looked at, with all that it is read through, before it is opened.

A qcow2 image can name any file of the host as its backing or data file, and a copy would hand out
that file's bytes. So the chain is read here first, by our own bounded reader, then by qemu-img
under limits, and the copy gets a tree of block nodes (Chain.node) in which nothing is left for
QEMU to look up. Source: docs/formats.md, "Images".
"""

import json
from collections.abc import Callable
from typing import Literal, TypeVar, TypeVarTuple, Unpack

import trio

from processes import qemu_img
from protocol.errors import (
    ConnectionLost,
    ImageRefused,
    InputOutputError,
    ToolFailed,
    ToolKilled,
)
from storage import image_file, walk
from storage.chain import Chain, Format, Link, Node
from storage.image_file import ImageFile
from storage.policy import Policy
from storage.signature import PROBED

__all__ = ["Chain", "Format", "Link", "Node", "Policy", "Role", "inspect", "inspect_node"]

Role = Literal["source", "target"]
Args = TypeVarTuple("Args")
Result = TypeVar("Result")
ARGUMENT_LIMIT = 100_000  # bytes; Linux allows 131,072 for one argument


async def inspect(
    path: str, *, declared: Format | None, policy: Policy, role: Role = "source"
) -> Chain:
    """Judge the image at a local path.

    declared: the format that it must have; None: found out by content. A target has no chain: an
    existing raw device may hold anything, a qcow2 target neither backing nor data file.
    Raises ImageMissing, ImageRefused, WrongFormat; ToolMissing, ToolStalled, InputOutputError and
    BadOutput when qemu-img cannot look.
    """
    file = await _in_thread(_read, path)
    return await _judge(file, declared, policy, role)


async def inspect_node(
    node: Node, name: str, *, declared: Format | None, policy: Policy, role: Role = "source"
) -> Chain:
    """Judge the image that the protocol node `node` opens, which is on the network.

    name: its url, for errors and as the path of the link. A qcow2 image there can only name files
    under `policy.allow`. Raises as `inspect`, and the errors of the connection.
    """
    head = await qemu_img.head(node, PROBED)
    if (more := image_file.head_length(head)) > len(head):
        head = await qemu_img.head(node, more)
    size = (await qemu_img.info({"driver": "raw", "file": node})).virtual_size
    file = ImageFile(name, None, node, volume=True, size=size, identity=None, head=head)
    return await _judge(file, declared, policy, role)


def _read(path: str) -> ImageFile:
    return image_file.read(image_file.real_path(path))


async def _judge(file: ImageFile, declared: Format | None, policy: Policy, role: Role) -> Chain:
    links = await _in_thread(_walk, file, declared, policy, role)
    if declared is None and links[0].format == "raw":
        # Have qemu-img guess as well; what it opens while it guesses (vmdk) we have excluded.
        await _confirm(links[0], {"file": links[0].file})
    for link in links:
        if link.format == "qcow2":
            await _confirm(link, link.node())
    chain = Chain(links)
    if len(json.dumps(chain.node())) > ARGUMENT_LIMIT:
        raise ImageRefused(file.path, "the names of its chain are too long together")
    return chain


def _walk(file: ImageFile, declared: Format | None, policy: Policy, role: Role) -> tuple[Link, ...]:
    if role == "target":
        return (walk.target(file, declared, policy),)
    return tuple(walk.source(file, declared, policy))


async def _confirm(link: Link, node: Node) -> None:
    try:
        info = await qemu_img.info(node)
    except (ConnectionLost, InputOutputError):
        raise  # the storage's fault, not the image's
    except ToolKilled:  # by the limits
        raise ImageRefused(link.path, "looking at it took qemu-img more than is allowed") from None
    except ToolFailed as e:
        raise ImageRefused(link.path, f"qemu-img cannot read it: {e.detail}") from None
    if info.format != link.format:
        reason = f"its format is {info.format} by qemu-img, {link.format} by its header"
        raise ImageRefused(link.path, reason)
    if info.virtual_size != link.virtual_size:
        reason = f"virtual size {info.virtual_size} by qemu-img, {link.virtual_size} by its header"
        raise ImageRefused(link.path, reason)


async def _in_thread(function: Callable[[Unpack[Args]], Result], *args: *Args) -> Result:
    """Files may lie on storage that hangs: an abort then leaves the thread behind, which only
    reads."""
    return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True)
