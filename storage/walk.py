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


def source(top: ImageFile, declared: Format | None, policy: Policy) -> Iterator[Link]:
    """The links of a source, top first.

    Raises ImageRefused, WrongFormat; the error names the link at fault.
    """
    link, below = _judge(top, declared or _probe(top), policy, top.folder)
    yield link
    yield from _follow(below, policy, top.folder, {top.identity})


def target(file: ImageFile, declared: Format | None, policy: Policy) -> Link:
    """An existing target, which stands alone.

    A volume declared raw may hold anything, it is what an earlier use left there; a regular file
    that is an image is not overwritten as if it were none. Raises as `source`.
    """
    format = declared or _probe(file)
    if format == "raw" and file.volume:
        return _raw(file, policy)
    link, below = _judge(file, format, policy, None, alone=True)
    assert below is None
    return link


def _follow(
    reference: Reference | None,
    policy: Policy,
    folder: str | None,
    seen: set[tuple[int, int] | None],
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
        link, reference = _judge(file, reference.format, policy, folder)
        yield link


def _judge(
    file: ImageFile, format: Format, policy: Policy, folder: str | None, *, alone: bool = False
) -> tuple[Link, Reference | None]:
    """The link that a file is, and the image that it names in turn.

    folder: where that may lie. alone: it may name nothing at all.
    """
    _check_content(file, format)
    if format == "raw":
        return _raw(file, policy), None
    header = _parse(file, policy)
    if alone and (header.backing_file is not None or header.external_data):
        raise ImageRefused(file.path, "a target cannot have a backing or data file")
    data_file = _data_file(file, header, policy) if header.external_data else None
    link = Link(file.path, "qcow2", header.virtual_size, file.node, data_file)
    return link, _backing_file(file, header, policy, folder)


def _raw(file: ImageFile, policy: Policy) -> Link:
    _check_size(file.path, file.raw_size, policy)
    return Link(file.path, "raw", file.raw_size, file.node)


def _probe(file: ImageFile) -> Format:
    """The format by content. Raises ImageRefused for one that is not copied."""
    match signature.guess(file.head):
        case "raw":
            return "raw"
        case "qcow2":
            return "qcow2"
        case other:
            raise ImageRefused(file.path, f"its format is {other}; only raw and qcow2 are copied")


def _check_content(file: ImageFile, format: Format) -> None:
    """Raise WrongFormat unless the content is what was declared.

    A raw disk that begins like an image file is an old trick: what a guest wrote into its disk
    would be read as an image the next time.
    """
    found = signature.guess(file.head)
    if found != format and not (format == "raw" and found in _ALSO_RAW):
        raise WrongFormat(file.path, format, found)


def _check_size(path: str, size: int, policy: Policy) -> None:
    if size > policy.max_virtual_size:
        reason = f"virtual size {size}, more than {policy.max_virtual_size} is not allowed"
        raise ImageRefused(path, reason)


def _parse(file: ImageFile, policy: Policy) -> qcow2.Header:
    """The header of an image that can be read at all. Raises ImageRefused."""
    try:
        header = qcow2.parse(file.head)
    except qcow2.BadHeader as e:
        raise ImageRefused(file.path, f"bad qcow2 header: {e}") from None
    if header.encryption is not None:
        raise ImageRefused(file.path, f"it is encrypted ({header.encryption})")
    if header.corrupt:
        raise ImageRefused(file.path, "it is marked corrupt")
    _check_size(file.path, header.virtual_size, policy)
    if file.size < header.least_size:  # QEMU would read zeros beyond the end
        reason = f"truncated: {file.size} bytes, its tables need {header.least_size}"
        raise ImageRefused(file.path, reason)
    return header


def _backing_file(
    file: ImageFile, header: qcow2.Header, policy: Policy, folder: str | None
) -> Reference | None:
    if header.backing_file is None:
        return None
    what = f"backing file {header.backing_file!r}"
    path = _resolve(file, what, header.backing_file)
    if not policy.permits(path, folder):
        reason = f"{what} is not in the image's folder nor in an allowed one"
        raise ImageRefused(file.path, reason)
    match header.backing_format:
        case "raw":
            return Reference(path, "raw")
        case "qcow2":
            return Reference(path, "qcow2")
        case None:
            raise ImageRefused(file.path, f"{what} is named without its format")
        case other:
            raise ImageRefused(file.path, f"{what} has the format {other!r}, not raw or qcow2")


def _data_file(file: ImageFile, header: qcow2.Header, policy: Policy) -> str:
    if header.data_file is None:
        raise ImageRefused(file.path, "its data is in another file, which it does not name")
    what = f"data file {header.data_file!r}"
    path = _resolve(file, what, header.data_file)
    if not policy.permits(path, None):
        raise ImageRefused(file.path, f"{what} is not in an allowed folder")
    return _regular(path).path


def _resolve(file: ImageFile, what: str, name: str) -> str:
    """The real path that a name inside of an image means."""
    if name.startswith("json:"):
        raise ImageRefused(file.path, f"{what} is a json: description, not a file name")
    # As QEMU reads it: a colon before the first slash ends the name of a protocol.
    protocol, colon, _ = name.partition("/")[0].partition(":")
    if colon:
        raise ImageRefused(file.path, f"{what} has the protocol {protocol!r}, not a file name")
    if file.folder is None and not os.path.isabs(name):
        raise ImageRefused(file.path, f"{what} is relative, but the image lies in no folder")
    try:
        return image_file.real_path(os.path.join(file.folder or "/", name))
    except (ImageMissing, ImageRefused) as e:
        raise ImageRefused(file.path, f"{what}: {e}") from None


def _regular(path: str) -> ImageFile:
    """A file that an image names: never a device."""
    try:
        file = image_file.read(path)
    except ImageMissing as e:
        raise ImageRefused(path, str(e)) from None
    if file.volume:
        raise ImageRefused(path, "an image names it, and it is a device, not a regular file")
    return file
