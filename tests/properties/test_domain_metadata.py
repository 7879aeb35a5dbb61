"""dom_md/metadata of a storage domain, and the domain that it describes.

Oracle: InvalidDomain or MetaDataSealIsBroken, or values that are written and read back as they are
(or cannot be written, because they hold control characters or their keys are none). A sealed text
with any byte changed describes the same domain or none.
"""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BadParameter, InvalidDomain, MetaDataSealIsBroken
from storage import domain_metadata
from storage.description import ALIGNMENTS, BLOCK_SIZES, FILE_TYPES, Domain, describe
from tests.properties.inputs import bounded, edited, edits, flipped, some, tries

SD_ID = "5e36a8c5-0000-4000-8000-000000000000"
PATH = f"/mnt/{SD_ID}"
VALUES = {
    "ALIGNMENT": "1048576",
    "BLOCK_SIZE": "512",
    "CLASS": "Data",
    "DESCRIPTION": "leasehold",
    "POOL_UUID": "",
    "REMOTE_PATH": "/mnt",
    "ROLE": "Regular",
    "SDUUID": SD_ID,
    "TYPE": "LOCALFS",
    "VERSION": "5",
}
SEALED = domain_metadata.encode(VALUES)

keys = st.sampled_from(sorted(VALUES)) | st.text(max_size=8)
values = st.text(max_size=20) | st.sampled_from([*VALUES.values(), "4096", "8388608", "-1", "5.0"])


def read(data: bytes) -> dict[str, str] | None:
    with bounded():
        try:
            found = domain_metadata.decode(data, PATH)
        except (InvalidDomain, MetaDataSealIsBroken):
            return None
    try:
        again = domain_metadata.encode(found)
    except BadParameter:
        assert not all(k.isidentifier() and v.isprintable() for k, v in found.items())
    else:
        assert domain_metadata.decode(again, PATH) == found
    described(found)
    return found


def described(found: dict[str, str]) -> Domain | None:
    with bounded():
        try:
            domain = describe(found, PATH)
        except InvalidDomain:
            return None
    assert (domain.id, domain.path, domain.version) == (SD_ID, PATH, 5)
    assert domain.block_size in BLOCK_SIZES
    assert domain.alignment in ALIGNMENTS
    assert domain.type in FILE_TYPES
    assert domain.pool is None or domain.pool.strip()
    for path in (domain.metadata, domain.ids, domain.xleases):
        assert path.startswith(f"{PATH}/dom_md/")
    return domain


@tries("domain metadata", each=3)
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    read(data)
    read(b"VERSION=5\n" + data)
    read(SEALED + data)


@tries("domain metadata")
@given(
    st.lists(st.tuples(keys, st.sampled_from(["=", " = ", ""]), values), max_size=8), st.booleans()
)
def test_any_lines_are_refused_or_read_back(lines: Any, crlf: bool) -> None:
    end = "\r\n" if crlf else "\n"
    read(end.join("".join(line) for line in lines).encode(errors="replace"))


@tries("domain metadata")
@given(st.dictionaries(keys, values))
def test_what_is_written_is_read_back_or_cannot_be_written(changes: dict[str, str]) -> None:
    wanted = {**VALUES, **changes}
    try:
        data = domain_metadata.encode(wanted)
    except BadParameter:
        assert not all(k.isidentifier() and v.isprintable() for k, v in wanted.items())
        return
    assert read(data) == wanted


@tries("domain metadata", each=64)
@given(some, st.integers(0, 63))
def test_a_flipped_byte_of_a_sealed_text_describes_the_same_domain_or_none(
    by: int, first: int
) -> None:
    good = described(VALUES)
    assert good is not None
    for step in range(64):
        found = read(flipped(SEALED, (first + step * 5) % len(SEALED), by))
        assert found is None or described(found) in (None, good)


@tries("domain metadata")
@given(edits(len(SEALED)))
def test_an_edited_text_whose_seal_is_still_there_is_refused_or_the_same(changes: Any) -> None:
    data = edited(SEALED, changes)
    found = read(data)
    lines = data.rstrip(b"\0").splitlines()
    if found is not None and lines and lines[-1] == SEALED.splitlines()[-1]:
        assert {k: found.get(k) for k in VALUES} == VALUES


@tries("domain metadata")
@given(st.dictionaries(keys, values), st.booleans())
def test_values_describe_a_domain_that_we_can_use_or_none(changes: Any, only: bool) -> None:
    described(changes if only else {**VALUES, **changes})
