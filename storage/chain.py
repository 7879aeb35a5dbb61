"""A chain: an image and everything that it is read through, as it was found and allowed.

Source of the nodes: QEMU's QAPI schema, BlockdevOptions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Format = Literal["raw", "qcow2"]
Node = Mapping[str, Any]  # a tree of block nodes, as processes/qemu_img.py takes it

_LOCAL = ("file", "host_device")


@dataclass(frozen=True)
class Link:
    """One image of a chain.

    path: real absolute path, or the url of a network image. virtual_size: bytes, a multiple of
    512, as QEMU sees it. file: the protocol node that opens it. data_file: real absolute path.
    """

    path: str
    format: Format
    virtual_size: int
    file: Node
    data_file: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Real path of the local files and devices that it is made of."""
        local = self.file["driver"] in _LOCAL
        return (*([self.path] if local else []), *([self.data_file] if self.data_file else []))

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
        """Real path of every local file and device that is read: no target may be among them."""
        return tuple(path for link in self.links for path in link.files)

    def node(self) -> Node:
        """The whole chain as a tree in which QEMU follows no name that stands in an image."""
        *above, bottom = self.links
        tree = bottom.node()
        for link in reversed(above):
            tree = link.node(tree)
        return tree


def file_node(path: str, *, device: bool = False) -> Node:
    """The protocol node of a regular file, or of a block device."""
    driver = "host_device" if device else "file"
    return {"driver": driver, "filename": path}
