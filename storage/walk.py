"""The walk along a chain: every link found, judged and only then followed.

Nothing here starts a program. Everything blocks: callers run it in a worker thread.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from protocol.errors import ImageMissing, ImageRefused, WrongFormat
from storage import image_file, qcow2, signature
from storage.chain import Format, Link
from storage.image_file import ImageFile
from storage.policy import Policy

# A LUKS disk has no format of its own: declared raw, its bytes are copied as they are.
_ALSO_RAW = ("raw", "luks")


@dataclass(frozen=True)
class Reference:
    """Another image that an image names: real path, and the format that it declares."""

    path: str
    format: Format


def source(path: str, declared: Format | None, policy: Policy) -> Iterator[Link]:
    """The links of the source at the real path `path`, top first.

    Raises ImageMissing (of the source itself), ImageRefused, WrongFormat; the error names the
    link at fault.
    """
    top = image_file.read(path)
    link, below = judge(top, declared or probe(path, top.head), policy, top.folder)
    yield link
    yield from follow(below, policy, top.folder, {top.identity})


def target(path: str, declared: Format | None, policy: Policy) -> Link:
    """The existing target at the real path `path`, which stands alone.

    A device declared raw may hold anything, it is what an earlier use left there; a regular file
    that is an image is not overwritten as if it were none. Raises as `source`.
    """
    file = image_file.read(path)
    format = declared or probe(path, file.head)
    if format == "raw" and file.device:
        return _raw(file, policy)
    if format == "qcow2" and file.head.startswith(qcow2.MAGIC):
        check_alone(path, parse(path, file.head, policy))
    link, _ = judge(file, format, policy, None)
    return link


def follow(
    reference: Reference | None, policy: Policy, folder: str | None, seen: set[tuple[int, int]]
) -> Iterator[Link]:
    """The links from `reference` down. folder: where links may lie; seen: those above."""
    depth = 1
    while reference is not None:
        depth += 1
        if depth > policy.max_depth:
            raise ImageRefused(reference.path, f"chain of more than {policy.max_depth} images")
        file = _regular(reference.path)
        if file.identity in seen:
            raise ImageRefused(file.path, "its chain is a loop")
        seen.add(file.identity)
        link, reference = judge(file, reference.format, policy, folder)
        yield link


def judge(
    file: ImageFile, format: Format, policy: Policy, folder: str | None
) -> tuple[Link, Reference | None]:
    """The link that a file is, and the image that it names in turn."""
    check_content(file.path, file.head, format)
    if format == "raw":
        return _raw(file, policy), None
    header = parse(file.path, file.head, policy)
    if file.size < header.least_size:
        reason = f"truncated: {file.size} bytes, its tables need {header.least_size}"
        raise ImageRefused(file.path, reason)
    data_file, below = references(file.path, header, policy, folder, file.folder)
    link = Link(file.path, "qcow2", header.virtual_size, file.node, data_file, file.identity)
    return link, below


def _raw(file: ImageFile, policy: Policy) -> Link:
    check_size(file.path, file.raw_size, policy)
    return Link(file.path, "raw", file.raw_size, file.node, identity=file.identity)


def probe(name: str, head: bytes) -> Format:
    """The format by content. Raises ImageRefused for one that is not copied."""
    match signature.guess(head):
        case "raw":
            return "raw"
        case "qcow2":
            return "qcow2"
        case other:
            raise ImageRefused(name, f"its format is {other}; only raw and qcow2 are copied")


def check_content(name: str, head: bytes, format: Format) -> None:
    """Raise WrongFormat unless the content is what was declared.

    A raw disk that begins like an image file is an old trick: what a guest wrote into its disk
    would be read as an image the next time.
    """
    found = signature.guess(head)
    if found != format and not (format == "raw" and found in _ALSO_RAW):
        raise WrongFormat(name, format, found)


def check_size(name: str, size: int, policy: Policy) -> None:
    if size > policy.max_virtual_size:
        reason = f"virtual size {size}, more than {policy.max_virtual_size} is not allowed"
        raise ImageRefused(name, reason)


def parse(name: str, head: bytes, policy: Policy) -> qcow2.Header:
    """The header of an image that can be read at all. Raises ImageRefused."""
    try:
        header = qcow2.parse(head)
    except qcow2.BadHeader as e:
        raise ImageRefused(name, f"bad qcow2 header: {e}") from None
    if header.encryption is not None:
        raise ImageRefused(name, f"it is encrypted ({header.encryption})")
    if header.corrupt:
        raise ImageRefused(name, "it is marked corrupt")
    check_size(name, header.virtual_size, policy)
    return header


def check_alone(name: str, header: qcow2.Header) -> None:
    """Raise ImageRefused for a target that is not one file."""
    if header.backing_file is not None or header.external_data:
        raise ImageRefused(name, "a target cannot have a backing or data file")


def references(
    name: str, header: qcow2.Header, policy: Policy, folder: str | None, base: str | None
) -> tuple[str | None, Reference | None]:
    """The real path of the data file and the backing image that a header names, both allowed.

    folder: where a backing image may lie; base: where relative names begin. None = nowhere.
    """
    data_file = None
    if header.external_data:
        data_file = _data_file(name, header, policy, base)
    if header.backing_file is None:
        return data_file, None
    what = f"backing file {header.backing_file!r}"
    path = _resolve(name, what, header.backing_file, base)
    if not policy.permits(path, folder):
        raise ImageRefused(name, f"{what} is not in the image's folder nor in an allowed one")
    match header.backing_format:
        case "raw":
            return data_file, Reference(path, "raw")
        case "qcow2":
            return data_file, Reference(path, "qcow2")
        case None:
            raise ImageRefused(name, f"{what} is named without its format")
        case other:
            raise ImageRefused(name, f"{what} has the format {other!r}, not raw or qcow2")


def _data_file(name: str, header: qcow2.Header, policy: Policy, base: str | None) -> str:
    if header.data_file is None:
        raise ImageRefused(name, "its data is in another file, which it does not name")
    what = f"data file {header.data_file!r}"
    path = _resolve(name, what, header.data_file, base)
    if not policy.permits(path, None):
        raise ImageRefused(name, f"{what} is not in an allowed folder")
    return _regular(path).path


def _resolve(name: str, what: str, reference: str, base: str | None) -> str:
    """The real path that a name inside of an image means."""
    if reference.startswith("json:"):
        raise ImageRefused(name, f"{what} is a json: description, not a file name")
    # As QEMU reads it: a colon before the first slash ends the name of a protocol.
    protocol, colon, _ = reference.partition("/")[0].partition(":")
    if colon:
        raise ImageRefused(name, f"{what} has the protocol {protocol!r}, not a file name")
    if base is None and not os.path.isabs(reference):
        raise ImageRefused(name, f"{what} is relative, but the image lies in no folder")
    try:
        return image_file.real_path(os.path.join(base or "/", reference))
    except (ImageMissing, ImageRefused) as e:
        raise ImageRefused(name, f"{what}: {e}") from None


def _regular(path: str) -> ImageFile:
    """A file that an image names: never a device."""
    try:
        file = image_file.read(path)
    except ImageMissing as e:
        raise ImageRefused(path, str(e)) from None
    if file.device:
        raise ImageRefused(path, "an image names it, and it is a device, not a regular file")
    return file
