"""The metadata file of a volume.

Oracle: InvalidVolumeMetadata (751), or metadata that are written and read back as they are, but for
a description that is cut (or cannot be written: a range, or more than 512 bytes). One changed byte
never makes an ILLEGAL volume LEGAL.
"""

from dataclasses import replace
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BadParameter, InvalidVolumeMetadata, MetadataOverflowError
from storage import volume_metadata
from storage.volume_metadata import DESCRIPTION_LIMIT, NO_PARENT, VolumeMetadata
from tests.properties.inputs import bounded, edited, edits, flipped, some, tries

ID = "5e36a8c5-0000-4000-8000-000000000000"
VERSIONS: tuple[Literal[3, 4, 5], ...] = (3, 4, 5)
PLAIN = VolumeMetadata(
    domain=ID,
    image=ID,
    parent=NO_PARENT,
    capacity=1 << 30,
    format="RAW",
    type="SPARSE",
    voltype="LEAF",
    disktype="DATA",
    description="",
    legality="ILLEGAL",
    ctime=1700000000,
    generation=7,
)
TEXT = volume_metadata.encode(PLAIN)

words = st.text(
    st.characters(codec="utf-8", exclude_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"),
    max_size=20,
).map(str.strip)
keys = st.sampled_from([line.split("=")[0] for line in TEXT.decode().splitlines()])
volumes = st.builds(
    replace,
    st.just(PLAIN),
    description=words,
    legality=st.sampled_from(["LEGAL", "ILLEGAL", "FAKE"]),
    format=st.sampled_from(["RAW", "COW", "QCOW9"]),
    generation=st.integers(0, 999),
    capacity=st.integers(0, 1 << 63),
    ctime=st.integers(0, 1 << 40),
    sequence=st.integers(0, 1 << 31),
)


def read(data: bytes) -> VolumeMetadata | None:
    with bounded():
        try:
            found = volume_metadata.decode(data, ID)
        except InvalidVolumeMetadata:
            return None
    for number in (found.capacity, found.ctime, found.generation, found.sequence):
        assert type(number) is int
    try:
        again = volume_metadata.encode(found)
    except (BadParameter, MetadataOverflowError):
        return found
    cut = replace(found, description=found.description[:DESCRIPTION_LIMIT].strip())
    assert volume_metadata.decode(again, ID) == cut
    return found


@tries("volume metadata", each=3)
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    read(data)
    read(data + TEXT)
    read(TEXT[:-4] + data)


@tries("volume metadata")
@given(st.lists(st.tuples(keys, st.sampled_from(["=", " = "]), st.text(max_size=12)), max_size=6))
def test_any_lines_are_refused_or_read_back(lines: Any) -> None:
    more = "\n".join("".join(line) for line in lines).encode(errors="replace")
    read(more + b"\nEOF\n")
    read(TEXT[:-4] + more + b"\nEOF\n")


@tries("volume metadata", each=3)
@given(volumes)
def test_what_is_written_is_read_back(wanted: VolumeMetadata) -> None:
    assert read(volume_metadata.encode(wanted)) == wanted
    for version in VERSIONS:
        found = read(volume_metadata.encode(wanted, version))
        assert found is not None
        assert (found.generation, found.legality) == (wanted.generation, wanted.legality)


@tries("volume metadata", each=64)
@given(volumes, some, st.integers(0, 63))
def test_a_flipped_byte_never_makes_an_illegal_volume_legal(
    volume: VolumeMetadata, by: int, first: int
) -> None:
    text = volume_metadata.encode(replace(volume, legality="ILLEGAL"))
    for step in range(64):
        found = read(flipped(text, (first + step * 5) % len(text), by))
        assert found is None or found.legality != "LEGAL"


@tries("volume metadata", each=2)
@given(volumes, edits(len(TEXT)))
def test_an_edited_text_is_refused_or_read_back(volume: VolumeMetadata, changes: Any) -> None:
    read(edited(TEXT, changes))
    read(edited(volume_metadata.encode(volume), changes))


@tries("volume metadata")
@given(volumes, st.text(max_size=300), keys)
def test_no_text_of_a_value_becomes_another_key(
    volume: VolumeMetadata, text: str, key: str
) -> None:
    """A description could make an ILLEGAL volume LEGAL."""
    for bad in (text, f"x\n{key}=9", f"{text}\r{key}=LEGAL"):
        try:
            data = volume_metadata.encode(replace(volume, description=bad))
        except (BadParameter, MetadataOverflowError):
            continue
        found = read(data)
        assert found is not None
        assert replace(found, description="") == replace(volume, description="")
