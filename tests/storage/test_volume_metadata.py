"""The codec of volume metadata, against files that vdsm wrote."""

import json
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BadParameter, InvalidVolumeMetadata, MetadataOverflowError
from storage.volume_metadata import READ_LIMIT, VolumeMetadata, decode, encode

GOLDEN = Path(__file__).parent.parent / "vectors" / "volume_meta"
INDEX = json.loads((GOLDEN / "index.json").read_text())
FILES = [path.name for path in sorted(GOLDEN.glob("*.meta"))]
CASES = INDEX["parser"]
BASE_TEXT = (GOLDEN / "raw_sparse.v5.meta").read_bytes()
BASE = decode(BASE_TEXT, "v")


def of_v5(name: str) -> Any:
    """What the index says of the file that all files of this name are compared with."""
    return INDEX["files"][name.partition(".")[0] + ".v5.meta"]


def version(name: str) -> Any:
    return int(name.split(".")[1].removeprefix("v"))


def fields(metadata: VolumeMetadata) -> dict[str, Any]:
    return {key: value for key, value in asdict(metadata).items() if key != "extra"}


def expected(name: str) -> dict[str, Any]:
    """What the writer of a golden file read back from it."""
    facts = INDEX["files"][name]
    if facts.get("same_as_v4"):
        facts = INDEX["files"][name.replace(".v3.", ".v4.")]
    return {**of_v5(name)["parsed"], **facts.get("parsed_same_as_v5", {})}


def inputs(name: str) -> VolumeMetadata:
    """What the writer of a golden file was told to write."""
    usual = of_v5("raw_sparse")["inputs"]
    return VolumeMetadata(**{**usual, **of_v5(name)["inputs"]})


def test_there_are_golden_files_and_cases() -> None:
    assert (len(FILES), len(CASES)) == (25, 56)


@pytest.mark.parametrize("name", FILES)
def test_golden_file_is_read(name: str) -> None:
    assert fields(decode((GOLDEN / name).read_bytes(), "v")) == expected(name)


@pytest.mark.parametrize("name", FILES)
def test_golden_file_is_written_byte_for_byte(name: str) -> None:
    assert encode(inputs(name), version(name)) == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_golden_file_is_written_again_as_it_was_read(name: str) -> None:
    golden = (GOLDEN / name).read_bytes()
    assert encode(decode(golden, "v"), version(name)) == golden


def case_bytes(case: dict[str, Any]) -> bytes:
    """The input of a parser case: its text, or hexadecimal digits and NULs behind them."""
    if "hex" not in case:
        return str(case["text"]).encode()
    return bytes.fromhex(case["hex"]) + bytes(case["nul_padding"])


# No case differs: whatever vdsm reads is read here, to the same values. What it reads but should
# not have written (a negative size, generation 1000) cannot be written, see below.
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_parser_case_gives_what_vdsm_gives(case: dict[str, Any]) -> None:
    data = case_bytes(case)
    if case["from_lines"] != "accepted":
        with pytest.raises(InvalidVolumeMetadata) as refused:
            decode(data, "v")
        assert refused.value.code == case["from_lines"]["code"] == 751
        return
    differs = case["parsed_differs_from_base"]
    assert fields(decode(data, "v")) == {**fields(BASE), **differs}


def test_every_missing_key_is_named() -> None:
    with pytest.raises(InvalidVolumeMetadata, match=r"CAP, CTIME, DESCRIPTION.*VOLTYPE"):
        decode(b"GEN=0\nEOF\n", "v")


def test_a_volume_that_is_partly_deleted_is_named_so() -> None:
    with pytest.raises(InvalidVolumeMetadata, match="partly deleted"):
        decode(b"NONE=####\nEOF\n", "v")


@pytest.mark.parametrize(
    ("characters", "kept", "size"), INDEX["notes"]["description_length_vs_file_size"][:3]
)
def test_description_is_cut_off_behind_210_characters(
    characters: int, kept: int, size: int
) -> None:
    data = encode(replace(BASE, description="d" * characters))
    assert len(data) == size
    assert decode(data, "v").description == "d" * kept


@pytest.mark.parametrize("character", ["ä", "中"])
def test_more_than_512_bytes_are_an_overflow(character: str) -> None:
    with pytest.raises(MetadataOverflowError) as refused:
        encode(replace(BASE, description=character * 210))
    assert refused.value.code == 756


def test_512_bytes_are_none() -> None:
    room = 512 - len(encode(replace(BASE, extra={"X": ""})))
    assert len(encode(replace(BASE, extra={"X": "x" * room}))) == 512
    with pytest.raises(MetadataOverflowError):
        encode(replace(BASE, extra={"X": "x" * (room + 1)}))


# Differs from vdsm, which drops them: another program's facts are not ours to lose.
def test_unknown_keys_are_kept_in_their_place() -> None:
    text = BASE_TEXT.replace(b"GEN=", b"FUTURE=a=b\nGEN=").replace(b"EOF", b"ZZZ=1\nEOF")
    metadata = decode(text, "v")
    assert metadata.extra == {"FUTURE": "a=b", "ZZZ": "1"}
    assert encode(metadata) == text
    assert b"FUTURE=a=b\nGEN=7\n" in encode(replace(metadata, generation=7))


def test_a_key_that_would_end_the_text_is_not_kept() -> None:
    metadata = decode(BASE_TEXT.replace(b"FORMAT", b" EOFX=1\nFORMAT"), "v")
    assert decode(encode(metadata), "v") == metadata


@pytest.mark.parametrize(
    "changes",
    [
        {"description": "x\nLEGALITY=LEGAL"},
        {"description": "x\rLEGALITY=LEGAL"},
        {"description": "\udcff"},
        {"generation": -1},
        {"generation": 1000},
        {"capacity": -512},
    ],
    ids=str,
)
def test_what_must_not_stand_there_is_not_written(changes: dict[str, Any]) -> None:
    with pytest.raises(BadParameter):
        encode(replace(BASE, **changes))


def test_too_long_a_file_is_refused() -> None:
    assert decode(BASE_TEXT.ljust(READ_LIMIT, b"x"), "v") == BASE
    with pytest.raises(InvalidVolumeMetadata, match="more than"):
        decode(BASE_TEXT.ljust(READ_LIMIT + 1, b"x"), "v")


@given(
    st.binary(max_size=600)
    | st.text().map(lambda text: BASE_TEXT + text.encode("utf-8", "replace"))
)
def test_no_bytes_do_worse_than_be_refused(data: bytes) -> None:
    with suppress(InvalidVolumeMetadata):
        decode(data, "v")


LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=30)


@given(LINE.map(str.strip), st.integers(0, 999), st.integers(0, 1 << 63))
def test_what_is_written_is_read_back(description: str, generation: int, capacity: int) -> None:
    metadata = replace(BASE, description=description, generation=generation, capacity=capacity)
    assert decode(encode(metadata), "v") == metadata
