"""Image safety: an image is looked at, with all that it is read through, before it is opened.

A qcow2 image can name any file of the host as its backing or data file, and a copy would hand out
that file's bytes. So the chain is read here first, by our own bounded reader, then by qemu-img
under limits, and the copy gets a tree of block nodes (Chain.node) in which nothing is left for
QEMU to look up. Source: docs/formats.md, "Images".
"""

import json
from typing import Literal

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
from storage.policy import Policy
from storage.signature import PROBED

__all__ = ["Chain", "Format", "Link", "Node", "Policy", "Role", "inspect", "inspect_node"]

Role = Literal["source", "target"]
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
    links = await trio.to_thread.run_sync(
        _walk, path, declared, policy, role, abandon_on_cancel=True
    )
    if declared is None:
        await _confirm_guess(links[0])
    return await _confirmed(links)


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
    format = declared or walk.probe(name, head)
    info = await qemu_img.info({"driver": "raw", "file": node})
    if format == "raw":
        if role == "source":  # a network volume is like a device: it may hold anything
            walk.check_content(name, head, format)
        walk.check_size(name, info.virtual_size, policy)
        return Chain((Link(name, "raw", info.virtual_size, node),))
    links = await trio.to_thread.run_sync(
        _walk_node, node, name, head, policy, role, abandon_on_cancel=True
    )
    return await _confirmed(links)


def _walk(path: str, declared: Format | None, policy: Policy, role: Role) -> tuple[Link, ...]:
    real = image_file.real_path(path)
    if role == "target":
        return (walk.target(real, declared, policy),)
    return tuple(walk.source(real, declared, policy))


def _walk_node(node: Node, name: str, head: bytes, policy: Policy, role: Role) -> tuple[Link, ...]:
    walk.check_content(name, head, "qcow2")
    header = walk.parse(name, head, policy)
    if role == "target":
        walk.check_alone(name, header)
    data_file, below = walk.references(name, header, policy, None, None)
    top = Link(name, "qcow2", header.virtual_size, node, data_file)
    return (top, *walk.follow(below, policy, None, set()))


async def _confirmed(links: tuple[Link, ...]) -> Chain:
    """The chain, once qemu-img sees every qcow2 link as we do."""
    for link in links:
        if link.format == "qcow2":
            await _confirm(link, link.node())
    chain = Chain(links)
    if len(json.dumps(chain.node())) > ARGUMENT_LIMIT:
        raise ImageRefused(chain.top.path, "the names of its chain are too long together")
    return chain


async def _confirm_guess(link: Link) -> None:
    """Have qemu-img guess as well. Only for a top whose content we found harmless to guess at."""
    if link.format == "raw":
        await _confirm(link, {"file": link.file})  # no driver: it probes


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
