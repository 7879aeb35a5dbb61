"""A chain: an image and everything that it is read through, as it was found and allowed.

Source of the nodes: QEMU's QAPI schema, BlockdevOptions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Format = Literal["raw", "qcow2"]
Node = Mapping[str, Any]  # a tree of block nodes, as processes/qemu_img.py takes it


@dataclass(frozen=True)
class Link:
    """One image of a chain.

    path: real absolute path, or the url of a network image. virtual_size: bytes, a multiple of
    512, as QEMU sees it. file: the protocol node that opens it. data_file: real absolute path.
    identity: device and inode of the file (st_dev, st_ino); None for a network image.
    """

    path: str
    format: Format
    virtual_size: int
    file: Node
    data_file: str | None = None
    identity: tuple[int, int] | None = None

    def node(self, backing: Node | None = None) -> Node:
        """The tree for this image over `backing`; None = over nothing, whatever it names."""
        if self.format == "raw":
            return {"driver": "raw", "file": self.file}
        tree = {"driver": "qcow2", "file": self.file, "backing": backing}
        if self.data_file is not None:
            tree["data-file"] = file_node(self.data_file)
        return tree


@dataclass(frozen=True)
class Chain:
    """The links, top first; never empty."""

    links: tuple[Link, ...]

    @property
    def top(self) -> Link:
        return self.links[0]

    @property
    def format(self) -> Format:
        return self.top.format

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk that the chain is."""
        return self.top.virtual_size

    @property
    def files(self) -> tuple[str, ...]:
        """Path of everything that is read: no target of a copy may be among them."""
        paths = ((link.path, link.data_file) for link in self.links)
        return tuple(path for pair in paths for path in pair if path is not None)

    def node(self) -> Node:
        """The whole chain as a tree in which QEMU follows no name that stands in an image."""
        *above, bottom = self.links
        tree = bottom.node()
        for link in reversed(above):
            tree = link.node(tree)
        return tree


def file_node(path: str, *, device: bool = False) -> Node:
    """The protocol node of a regular file, or of a block device."""
    return {"driver": "host_device" if device else "file", "filename": path}
