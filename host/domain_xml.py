"""Disks in the XML of a libvirt domain: which there are, and the same XML with local ones.

Only what must change changes. lxml reads the XML and says what it means; where that stands is found
in its bytes, and all other bytes stay as they are: an XML library would write blanks, quotes and
entities in a way of its own.
Source: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lxml import etree

from host.xml_text import Edit, Tag, edited, tags
from protocol.errors import BadParameter, NoSuchDisk

LIMIT = 4 << 20  # bytes; libvirt itself sends and takes no longer text (REMOTE_STRING_MAX)
NAME = "domain XML"

# What a source is reached by, of each type of disk. Other attributes of it stay.
_REACHED_BY = {
    "file": ("file", "fdgroup"),
    "block": ("dev",),
    "network": ("name", "protocol", "query", "tls", "tlsHostname"),
}
# Who may use the source; all other elements in it are about where it is and how it is reached.
_KEPT_IN_SOURCE = "seclabel"


@dataclass(frozen=True)
class Disk:
    """One that can become local. target: its name in the VM, `vda`; unique. source: path, device or
    the name of a network volume."""

    target: str
    kind: str
    source: str


def disks(xml: bytes) -> list[Disk]:
    """The disks of a domain, without CD-ROMs and floppies, and without those that have no source.

    Raises BadParameter (1000): it is no XML of a domain, longer than LIMIT, or has a DTD, entities
    of its own or inclusions.
    """
    return [_disk(one) for one in _elements(_parsed(xml))]


def vm_id(xml: bytes) -> str:
    """The UUID of the domain, as it stands there; empty: there is none. Raises as `disks`."""
    text: str = _parsed(xml).findtext("uuid") or ""
    return text.strip()


def localised(xml: bytes, devices: Mapping[str, str]) -> bytes:
    """The XML with disks that are on raw block devices. devices: by the disk's target or source.

    What tells how to reach the old source goes, with its chain: `backingStore` is empty then. A
    disk that is on its device already keeps every byte. Raises as `disks`; NoSuchDisk (4330): none
    has such a target or source; BadParameter (1000): more than one has, or the disk cannot be a
    local one.
    """
    root = _parsed(xml)
    chosen = _chosen(root, devices)
    wanted = {part for disk in chosen for part in disk.iter(etree.Element)}
    places = _places(xml, root, wanted)
    changes = (_changes(disk, device, places) for disk, device in chosen.items())
    return edited(xml, [edit for of_disk in changes for edit in of_disk])


# --- what it means --------------------------------------------------------------------------------


def _parsed(xml: bytes) -> etree._Element:
    if len(xml) > LIMIT:
        raise BadParameter(NAME, f"it is longer than {LIMIT} bytes")
    _check_text(xml)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, recover=False
    )
    try:
        root = etree.fromstring(xml, parser)
    except etree.XMLSyntaxError as e:
        raise BadParameter(NAME, f"it cannot be read: {e}") from None
    facts = root.getroottree().docinfo
    if (facts.encoding or "UTF-8").upper() not in ("UTF-8", "US-ASCII", "ASCII") or facts.doctype:
        raise BadParameter(NAME, "it is not UTF-8, or has a DTD")
    if root.tag != "domain":
        raise BadParameter(NAME, f"it is not of a domain, but {_shown(root.tag)}")
    if next(root.iter("{http://www.w3.org/2001/XInclude}*"), None) is not None:
        raise BadParameter(NAME, "it includes other files")
    return root


def _check_text(xml: bytes) -> None:
    """Before any parser sees it: it has no DTD, and so no entities of its own either."""
    try:
        xml.decode("utf-8")
        for tag in tags(xml):
            if tag.kind == "doctype":
                raise BadParameter(NAME, "it has a DTD; entities and references are not taken")
            if tag.kind in ("start", "empty"):
                return
    except ValueError as e:  # UnicodeDecodeError is one
        raise BadParameter(NAME, f"it cannot be read: {e}") from None


def _elements(root: etree._Element) -> Iterator[etree._Element]:
    for one in root.iterfind("devices/disk"):
        of_disk = one.get("device", "disk") in ("disk", "lun")
        if of_disk and one.find("source") is not None and one.find("target") is not None:
            yield one


def _disk(element: etree._Element) -> Disk:
    kind = element.get("type", "file")
    source, target = element.find("source"), element.find("target")
    assert source is not None
    assert target is not None
    place = _REACHED_BY.get(kind, ("file",))[0]
    return Disk(target.get("dev", ""), kind, source.get(place, ""))


def _chosen(root: etree._Element, devices: Mapping[str, str]) -> dict[etree._Element, str]:
    """The disks that are named, with what is to be their device."""
    chosen: dict[etree._Element, str] = {}
    for name, device in devices.items():
        disk = _found(root, name)
        if disk in chosen or device in chosen.values():
            raise BadParameter("disk", f"{_shown(name)}: a disk or a device is named twice")
        _check_fit(disk)
        chosen[disk] = device
    return chosen


def _found(root: etree._Element, name: str) -> etree._Element:
    known = [(one, _disk(one)) for one in _elements(root)]
    found = [one for one, disk in known if disk.target == name]
    found = found or [one for one, disk in known if disk.source == name]
    if not found or not name:
        raise NoSuchDisk(name, ", ".join(disk.target for _, disk in known))
    if len(found) > 1:
        raise BadParameter("disk", f"{len(found)} disks of the domain are {_shown(name)}")
    return found[0]


def _check_fit(disk: etree._Element) -> None:
    """Raises BadParameter (1000) for a disk of which a copy would not be what the VM has."""
    kind, reason = disk.get("type", "file"), ""
    if kind not in _REACHED_BY:
        reason = f"its type is {_shown(kind)}, none of {', '.join(_REACHED_BY)}"
    elif disk.get("device") == "lun":
        reason = "it passes SCSI commands to its device"
    elif disk.find("shareable") is not None:
        reason = "other VMs use it at the same time"
    elif disk.find("mirror") is not None:
        reason = "it is being mirrored"
    elif disk.find("transient") is not None:
        reason = "it is transient, which needs a file"
    elif disk.find("encryption") is not None or disk.find("source/encryption") is not None:
        reason = "it is encrypted"
    elif any(len(disk.findall(one)) > 1 for one in ("source", "driver", "backingStore", "target")):
        reason = "an element is there twice"
    if reason:
        raise BadParameter("disk", f"{_shown(_disk(disk).target)} cannot be local: {reason}")


# --- where it stands ------------------------------------------------------------------------------

Places = Mapping[etree._Element, tuple[Tag, Tag]]


def _places(xml: bytes, root: etree._Element, wanted: set[etree._Element]) -> Places:
    """The first and the last tag of elements; of an empty one, the same."""
    elements = root.iter(etree.Element)
    places: dict[etree._Element, tuple[Tag, Tag]] = {}
    opened: list[tuple[etree._Element, Tag]] = []
    for tag in tags(xml):
        if tag.kind in ("start", "empty"):
            opened.append((next(elements), tag))
        if tag.kind in ("end", "empty"):
            element, first = opened.pop()
            if element in wanted:
                places[element] = (first, tag)
    return places


def _changes(disk: etree._Element, device: str, places: Places) -> Iterator[Edit]:
    if disk.get("type") != "block":
        yield from places[disk][0].set("type", "block")
    for one in disk.iterchildren(etree.Element):
        if one.tag == "driver":
            yield from _driver(one, places)
        elif one.tag == "source":
            yield from _source(one, disk.get("type", "file"), device, places)
        elif one.tag == "backingStore" and (len(one) or one.attrib):
            yield _whole(one, places, b"<backingStore/>")
        elif one.tag == "auth":  # of a network disk, as older libvirt writes it
            yield _whole(one, places, b"")


def _driver(driver: etree._Element, places: Places) -> Iterator[Edit]:
    """Without a type it is raw already."""
    tag, _ = places[driver]
    if driver.get("type", "raw") != "raw":
        yield from tag.set("type", "raw")
    yield from tag.drop("discard_no_unref")  # this and the next are of qcow2 alone
    for cache in driver.iterchildren("metadata_cache"):
        yield _whole(cache, places, b"")


def _source(source: etree._Element, kind: str, device: str, places: Places) -> Iterator[Edit]:
    tag, _ = places[source]
    reached_by = [name for name in _REACHED_BY[kind] if name in source.attrib and name != "dev"]
    if reached_by and "dev" not in source.attrib:
        yield from tag.replace(reached_by.pop(0), "dev", device)
    elif source.get("dev") != device:
        yield from tag.set("dev", device)
    for name in reached_by:
        yield from tag.drop(name)
    for one in source.iterchildren(etree.Element):
        if one.tag != _KEPT_IN_SOURCE:
            yield _whole(one, places, b"")


def _whole(element: etree._Element, places: Places, instead: bytes) -> Edit:
    """The element with all that is in it; when nothing comes instead, with the blanks before it."""
    first, last = places[element]
    return Edit(first.start if instead else first.start - first.blanks, last.end, instead)


def _shown(text: object) -> str:
    return f"{text!r:.80}"
