"""The metadata of a volume: `KEY=value` lines that say what the volume is. Pure.

Written as version 5 of the format; versions 3 and 4 are read, and written for comparison.
Source: docs/formats.md, "Volume metadata".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from protocol.errors import BadParameter, InvalidVolumeMetadata, MetadataOverflowError
from protocol.record import GENERATIONS

SIZE_LIMIT = 512  # bytes of a file that is written
READ_LIMIT = 4096  # bytes of a file that is read: other writers may not have kept that limit
DESCRIPTION_LIMIT = 210  # characters; what is beyond is cut off
SECTOR = 512  # the unit of SIZE
NO_PARENT = "00000000-0000-0000-0000-000000000000"

_END = b"EOF"
_CLEARED = "NONE"  # the only key of a volume that is being deleted
# Our name of each key: text, then numbers.
_TEXTS = {
    "DESCRIPTION": "description",
    "DISKTYPE": "disktype",
    "DOMAIN": "domain",
    "FORMAT": "format",
    "IMAGE": "image",
    "LEGALITY": "legality",
    "PUUID": "parent",
    "TYPE": "type",
    "VOLTYPE": "voltype",
}
_NUMBERS = {"CAP": "capacity", "CTIME": "ctime"}
_OPTIONAL_NUMBERS = {"GEN": "generation", "SEQ": "sequence"}  # 0 when missing


@dataclass(frozen=True)
class VolumeMetadata:
    """What stands in <volume id>.meta.

    The texts are as they were read: whoever acts on one checks it (`format` may be "QCOW9").
    domain, image: UUID of the place that it was made in. parent: UUID, or NO_PARENT.
    capacity: bytes of the disk. format: RAW or COW. type: SPARSE or PREALLOCATED. voltype: LEAF
    (may be written), INTERNAL (a parent in its image), SHARED (a template). legality: LEGAL, or
    ILLEGAL while its content is not to be used. ctime: seconds since the epoch. generation: 0 to
    999, then 0 again: compare for equality only. sequence: place in the order of creation.
    extra: keys that we do not know, and their values.
    """

    domain: str
    image: str
    parent: str
    capacity: int
    format: str
    type: str
    voltype: str
    disktype: str
    description: str
    legality: str
    ctime: int
    generation: int = 0
    sequence: int = 0
    extra: Mapping[str, str] = field(default_factory=dict)


def encode(metadata: VolumeMetadata, version: Literal[3, 4, 5] = 5) -> bytes:
    """The text of the file: keys sorted, the unknown ones among them; the last line is `EOF`.

    Versions 3 and 4 have SIZE (whole sectors) in place of CAP, MTIME, and no SEQ.
    Raises BadParameter (1000) for what would not be read back as it is, MetadataOverflowError
    (756) for more than SIZE_LIMIT bytes.
    """
    _check(metadata)
    numbers = {"CAP": metadata.capacity, "SEQ": metadata.sequence}
    if version < 5:
        numbers = {"SIZE": metadata.capacity // SECTOR}
    numbers |= {"CTIME": metadata.ctime, "GEN": metadata.generation}
    values = {} if version == 5 else {"MTIME": "0"}
    values |= metadata.extra
    values |= {key: getattr(metadata, name) for key, name in _TEXTS.items()}
    values |= {key: str(number) for key, number in numbers.items()}
    values["DESCRIPTION"] = values["DESCRIPTION"][:DESCRIPTION_LIMIT]
    lines = [_line(key, values[key]) for key in sorted(values)]
    data = b"".join(lines) + _END + b"\n"
    if len(data) > SIZE_LIMIT:
        raise MetadataOverflowError(len(data), SIZE_LIMIT)
    return data


def decode(data: bytes, volume: str) -> VolumeMetadata:
    """Read the file of any version; `volume` names it in errors.

    Tolerant where other writers were: order, blanks around keys and values, CRLF, lines without
    "=", a repeated key (the last one holds), no EOF line; whatever stands behind that is ignored.
    Numbers are not checked for their range.
    Raises InvalidVolumeMetadata (751): a key is missing or not a number, text that is not UTF-8,
    a volume that is being deleted.
    """
    if len(data) > READ_LIMIT:
        raise InvalidVolumeMetadata(volume, f"more than {READ_LIMIT} bytes")
    try:
        values = dict(_pairs(data))
    except UnicodeDecodeError as e:
        raise InvalidVolumeMetadata(volume, f"not UTF-8: {e}") from None
    if _CLEARED in values:
        raise InvalidVolumeMetadata(volume, "it was cleared: the volume is partly deleted")
    unit = 1
    if "CAP" not in values and "SIZE" in values:  # versions 3 and 4
        values["CAP"] = values.pop("SIZE")
        unit = SECTOR
    if missing := sorted((_TEXTS.keys() | _NUMBERS.keys()) - values.keys()):
        raise InvalidVolumeMetadata(volume, f"missing: {', '.join(missing)}")
    fields: dict[str, Any] = {name: values.pop(key) for key, name in _TEXTS.items()}
    for key, name in (_NUMBERS | _OPTIONAL_NUMBERS).items():
        fields[name] = _number(key, values.pop(key, "0"), volume)
    fields["capacity"] *= unit
    return VolumeMetadata(**fields, extra=values)


def _check(metadata: VolumeMetadata) -> None:
    if not 0 <= metadata.generation < GENERATIONS:
        raise BadParameter("generation", f"{metadata.generation} is not in 0..{GENERATIONS - 1}")
    if metadata.capacity < 0:
        raise BadParameter("capacity", f"{metadata.capacity} is negative")


def _line(key: str, value: str) -> bytes:
    # A line end would begin another key: a description could make an ILLEGAL volume LEGAL.
    if "\n" in value or "\r" in value:
        raise BadParameter(key, f"{value!r} has more than one line")
    try:
        return f"{key}={value}\n".encode()
    except UnicodeEncodeError:
        raise BadParameter(key, f"{value!r} is not text") from None


def _pairs(data: bytes) -> Iterator[tuple[str, str]]:
    for line in data.splitlines():
        if line.startswith(_END):
            return
        key, equals, value = line.decode().partition("=")
        key = key.strip()
        # Behind a blank EOF does not end the text; written back without it, it would.
        if equals and not key.encode().startswith(_END):
            yield key, value.strip()


def _number(key: str, text: str, volume: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidVolumeMetadata(volume, f"{key} is {text!r}, not a number") from None
