"""The file dom_md/metadata of a storage domain: `KEY=value` lines under a checksum.

Source: docs/formats.md, "Storage domain files".
"""

import hashlib
from collections.abc import Mapping

from protocol.errors import BadParameter, InvalidDomain, MetaDataSealIsBroken

CHECKSUM = "_SHA_CKSUM"
SIZE_LIMIT = 64 << 10  # bytes that are read; a real one has about 300


def encode(values: Mapping[str, str]) -> bytes:
    """The text of the file: keys sorted, the checksum last.

    Raises BadParameter for a key or value that would not be read back as it is.
    """
    for key, value in values.items():
        # Readers split at everything that str.splitlines takes for the end of a line.
        if not value.isprintable():
            raise BadParameter(key, f"{value!r} has control characters")
        if not key.isidentifier() or key == CHECKSUM:
            raise BadParameter(key, "not a metadata key")
    lines = [f"{key}={values[key]}" for key in sorted(values)]
    return "".join(f"{line}\n" for line in [*lines, f"{CHECKSUM}={seal(values)}"]).encode()


def decode(data: bytes, path: str) -> dict[str, str]:
    """The values by key, without the checksum; path: of the domain, for errors.

    Tolerant where other writers were: order, blank lines, lines without "=", blanks around keys,
    CRLF, NULs at the end, a repeated key (the last one holds), a missing checksum line; a file
    without any value has nothing to seal.
    Raises MetaDataSealIsBroken (752) when there is a checksum that does not fit; InvalidDomain.
    """
    if len(data) > SIZE_LIMIT:
        raise InvalidDomain(path, f"metadata of more than {SIZE_LIMIT} bytes")
    try:
        text = data.rstrip(b"\0").decode()
    except UnicodeDecodeError as e:
        raise InvalidDomain(path, f"metadata is not UTF-8: {e}") from None
    values = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            values[key.strip()] = value
    found = values.pop(CHECKSUM, None)
    if values and found is not None and found != (computed := seal(values)):
        raise MetaDataSealIsBroken(found, computed)
    return values


def seal(values: Mapping[str, str]) -> str:
    """SHA-1 over the sorted lines without their ends; what is not ASCII counts as `&#NNN;`."""
    digest = hashlib.sha1(usedforsecurity=False)
    for key in sorted(values):
        digest.update(f"{key}={values[key]}".encode("ascii", "xmlcharrefreplace"))
    return digest.hexdigest()
