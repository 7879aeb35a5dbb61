"""The codec of dom_md/metadata against files that another program wrote and read."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BadParameter, Error, InvalidDomain, MetaDataSealIsBroken
from storage.description import describe
from storage.domain_metadata import CHECKSUM, SIZE_LIMIT, decode, encode

GOLDEN = Path(__file__).parent.parent / "vectors" / "domain_metadata"
INDEX = json.loads((GOLDEN / "index.json").read_text())
FILES = sorted(GOLDEN.glob("*.metadata"))
READER = [case for case in INDEX["reader"] if case["name"] != "metadata file missing"]
BASE = READER[0]["dict"]

# As the writer of the golden files shows them; on disk they are words.
CLASSES = {1: "Data"}
TYPES = {1: "NFS", 4: "LOCALFS"}

# Where we refuse what it accepts, and why.
STRICTER = {
    "VERSION=0 resealed": "we know version 5 only",
    "BLOCK_SIZE=1024 resealed": "no such sector exists for the lease volume",
    "ALIGNMENT=1234567 resealed": "slots would lie at offsets that sanlock cannot have",
    "SDUUID other, resealed": "the folder is not the one that the metadata speaks of",
}


def text_of(case: dict[str, Any]) -> bytes:
    """The file of a reader case; two of them stand shortened or escaped in the index."""
    match case["name"]:
        case "NUL padding to 4096":
            return text_of(READER[0]).ljust(4096, b"\0")
        case "invalid UTF-8":
            return text_of(READER[0]) + b"X=\xff\n"
        case _:
            return str(case["text"]).encode()


def shown(values: dict[str, str]) -> dict[str, Any]:
    """Our values as the golden `dict` has them."""
    return {key: _shown(key, text) for key, text in values.items()}


def _shown(key: str, text: str) -> Any:
    for number, word in {"CLASS": CLASSES, "TYPE": TYPES}.get(key, {}).items():
        if word.lower() == text.lower():
            return number
    if isinstance(BASE.get(key), int) and text.isdecimal():
        return int(text)
    if isinstance(BASE.get(key), list):
        return [id_ for id_ in text.split(",") if id_]
    return text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_golden_file_is_created_anew_byte_for_byte(file: Path) -> None:
    data = file.read_bytes()
    assert encode(decode(data, "x")) == data


@pytest.mark.parametrize("name", INDEX["domains"])
def test_golden_file_reads_as_its_writer_read_it(name: str) -> None:
    values = decode((GOLDEN / f"{name}.metadata").read_bytes(), "x")
    assert shown(values) == INDEX["domains"][name]["read_back"]


@pytest.mark.parametrize("case", READER, ids=lambda case: case["name"])
def test_reader_case_gives_the_same_values_or_kind_of_error(case: dict[str, Any]) -> None:
    expected = BASE if case["dict"] == "same as the first" else case["dict"]
    if expected.get("error") == "MetaDataSealIsBroken":
        with pytest.raises(MetaDataSealIsBroken) as broken:
            decode(text_of(case), "x")
        assert broken.value.code == expected["code"]
    elif expected.get("error") == "UnicodeDecodeError":
        with pytest.raises(InvalidDomain, match="not UTF-8"):
            decode(text_of(case), "x")
    else:
        values = decode(text_of(case), "x")
        if "error" in expected or case["name"].startswith("LEASETIMESEC=x"):
            return  # a number that is none: judged by describe, or not used by us
        assert shown(values) == expected


@pytest.mark.parametrize("case", READER, ids=lambda case: case["name"])
def test_reader_case_describes_the_same_domain_or_is_refused(case: dict[str, Any]) -> None:
    path = f"/mount/{BASE['SDUUID']}"
    expected = case["manifest"]
    if "error" in expected or case["name"] in STRICTER:
        with pytest.raises(Error) as refused:
            describe(decode(text_of(case), path), path)
        sealed = expected.get("error") == "MetaDataSealIsBroken"
        assert type(refused.value) is (MetaDataSealIsBroken if sealed else InvalidDomain)
        return
    domain = describe(decode(text_of(case), path), path)
    found = (domain.version, domain.block_size, domain.alignment)
    assert found == (expected["version"], expected["block_size"], expected["alignment"])


def test_pool_of_an_attached_domain_is_told() -> None:
    path = "/m/aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
    attached = (GOLDEN / "nfs_v5_attached.metadata").read_bytes()
    alone = (GOLDEN / "nfs_v5_created.metadata").read_bytes()
    assert describe(decode(attached, path), path).pool == "88888888-9999-4aaa-8bbb-cccccccccccc"
    assert describe(decode(alone, path), path).pool is None


KEYS = st.from_regex(r"[A-Z][A-Z_]{0,20}", fullmatch=True)
VALUES = st.text().filter(str.isprintable)


@given(st.dictionaries(KEYS, VALUES))
def test_values_survive_the_round_trip(values: dict[str, str]) -> None:
    assert decode(encode(values), "x") == values


@given(st.text())
def test_value_is_written_so_that_it_reads_back_or_not_at_all(value: str) -> None:
    try:
        data = encode({"DESCRIPTION": value})
    except BadParameter:
        return
    assert decode(data, "x") == {"DESCRIPTION": value}


@pytest.mark.parametrize("key", ["", "A B", "A=B", CHECKSUM, "A\n"])
def test_key_that_would_not_read_back_is_refused(key: str) -> None:
    with pytest.raises(BadParameter):
        encode({key: "x"})


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_are_values_or_a_named_error(data: bytes) -> None:
    with suppress(MetaDataSealIsBroken, InvalidDomain):
        decode(data, "x")


def test_padding_is_no_part_of_the_last_value() -> None:
    assert decode(b"A=x\0\0", "x") == {"A": "x"}


def test_huge_metadata_is_refused() -> None:
    with pytest.raises(InvalidDomain, match="more than"):
        decode(b"A=" + b"x" * SIZE_LIMIT, "x")
