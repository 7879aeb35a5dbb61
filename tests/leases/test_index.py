"""The index of a lease volume: golden bytes, and each damaged one."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from leases import change, index, verbs
from leases.embedded import EmbeddedStore
from leases.geometry import Geometry
from leases.index import EMPTY, Listed
from leases.slot import fresh
from leases.volume import LeaseVolume, format_volume
from protocol.errors import BadParameter, Error, InvalidMetadata, NoSuchLease, TruncatedIndex
from tests.leases.vectors import load

VECTORS = load("lease_volume")
SD_ID = VECTORS["inputs"]["lockspace"]
LEASES = VECTORS["inputs"]["leases"]
STEPS = VECTORS["steps"]
BASE = VECTORS["sizes"]["index_offset"]
SIZE = VECTORS["sizes"]["index_size"]
EARLY = {"truncated index (file cut 1 block short)", "truncated index (empty file)"}


def read(store: EmbeddedStore, offset: int, count: int) -> bytes:
    with open(store.path, "rb") as file:
        file.seek(offset)
        return file.read(count)


@pytest.fixture
def store(tmp_path: Path) -> EmbeddedStore:
    """A formatted volume of the size that the vectors were made with (sparse)."""
    Path(tmp_path, "ids").touch()
    store = EmbeddedStore(SD_ID, str(tmp_path / "xleases"), str(tmp_path / "ids"))
    with open(store.path, "wb") as file:
        file.truncate(VECTORS["sizes"]["volume_size_used_here"])
    format_volume(store.volume, now=1700000000)
    return store


async def add(store: EmbeddedStore, letter: str) -> int:
    return (await verbs.create(store, LEASES[letter], None, now=0, hardware_id="h")).offset


async def final(store: EmbeddedStore) -> None:
    for letter in "ABC":
        await add(store, letter)
    await verbs.delete(store, LEASES["B"])
    await add(store, "D")


def check_step(store: EmbeddedStore, number: int) -> None:
    step = STEPS[number]
    whole = read(store, BASE, SIZE)
    if step["metadata_block"] != "unchanged":
        assert whole[:512].hex() == step["metadata_block"]
    records = step["records"]
    for n, record in records.items() if isinstance(records, dict) else enumerate(records):
        at = 512 + int(n) * 64
        assert whole[at : at + 64].hex() == record
    assert hashlib.sha256(whole).hexdigest() == step["index_area_sha256"]
    for n, leader in step["slot_leaders_first_200"].items():
        assert read(store, (3 + int(n)) * BASE, 200).hex() == leader


async def test_every_step_leaves_the_bytes_that_vdsm_leaves(store: EmbeddedStore) -> None:
    check_step(store, 0)
    for number, letter in enumerate("ABC", start=1):
        assert await add(store, letter) == VECTORS["return_values"][f"add {letter}"]["offset"]
        check_step(store, number)
    await verbs.delete(store, LEASES["B"])
    check_step(store, 4)
    assert await add(store, "D") == VECTORS["return_values"]["add D"]["offset"]
    check_step(store, 5)
    assert {i: (o, u) for i, o, u in await verbs.leases(store)} == {
        i: (v["offset"], v["updating"]) for i, v in VECTORS["leases_dump"].items()
    }
    with store.volume.open() as sectors:
        assert store.volume.index(sectors).mtime == VECTORS["properties"]["mtime"]


async def test_lookups_give_what_vdsm_finds(store: EmbeddedStore) -> None:
    await final(store)
    for letter in "ABCD":
        answer = VECTORS["lookups"][letter]
        if "error" in answer:
            with pytest.raises(NoSuchLease):
                await verbs.info(store, LEASES[letter])
        else:
            assert (await verbs.info(store, LEASES[letter])).offset == answer["result"]["offset"]
    # vdsm finds a free record under the empty name.
    with pytest.raises(BadParameter):
        await verbs.info(store, "")


def test_formatting_an_empty_file_makes_it_as_long_as_its_index(tmp_path: Path) -> None:
    volume = LeaseVolume(str(tmp_path / "xleases"), SD_ID, Geometry())
    format_volume(volume, now=1700000000)
    assert os.path.getsize(volume.path) == VECTORS["file_size_after_format_of_empty_file"]


def test_a_volume_is_allocated_in_full(tmp_path: Path) -> None:
    volume = LeaseVolume(str(tmp_path / "xleases"), SD_ID, Geometry())
    format_volume(volume, now=0, leases=5)
    found = os.stat(volume.path)
    assert found.st_size == 8 << 20
    assert found.st_blocks * 512 >= found.st_size


@pytest.mark.parametrize("leases", [0, -1, 3961])
def test_a_volume_holds_between_1_and_3960_leases(tmp_path: Path, leases: int) -> None:
    with pytest.raises(BadParameter):
        format_volume(LeaseVolume(str(tmp_path / "x"), SD_ID, Geometry()), now=0, leases=leases)


def test_a_volume_of_another_lockspace_is_refused(store: EmbeddedStore) -> None:
    other = LeaseVolume(store.path, SD_ID.replace("1", "9"), Geometry())
    told = f"belongs to another domain, '{SD_ID}', and not to {other.sd_id}; nothing was written"
    with other.open() as sectors, pytest.raises(InvalidMetadata, match=told) as caught:
        other.index(sectors)
    assert "rebuild" not in str(caught.value)
    assert "format" not in str(caught.value)


async def damaged(store: EmbeddedStore, variant: dict[str, Any]) -> None:
    """Bring the volume into its final state, then damage it."""
    await final(store)
    with open(store.path, "r+b") as file:
        for edit in variant["edits"]:
            file.seek(BASE + edit["index_offset"])
            file.write(bytes.fromhex(edit["hex"]))
        if "truncate_file_to" in variant:
            file.truncate(variant["truncate_file_to"])


async def answer(store: EmbeddedStore, question: str) -> Any:
    """What one of the questions of the vectors gives: {"result"} or {"error"}."""
    verb, _, letter = question.partition(" ")
    try:
        match verb:
            case "lookup":
                found = await verbs.info(store, LEASES[letter])
                return {"result": {"offset": found.offset, "resource": found.lease_id}}
            case "leases":
                listed = await verbs.leases(store)
                return {"result": {i: {"offset": o, "updating": u} for i, o, u in listed}}
            case "add":
                offset = await add(store, letter)
                return {"result": {"offset": offset, "resource": LEASES[letter]}}
            case "remove":
                await verbs.delete(store, LEASES[letter])
                return {"result": None}
    except Error as e:
        return {"error": type(e).__name__}
    raise AssertionError(question)


# We name an interrupted update as what it is: an index that cannot be used.
KINDS = {"IndexIsUpdating": "InvalidMetadata"}
# Re-creating a lease without metadata is success, so that a create that was cut off can be repeated
# (the lease that is there is the one that was asked for). vdsm refuses that.
REPEATED = {"error": "LeaseExists"}


@pytest.mark.parametrize("variant", VECTORS["variants"], ids=lambda v: v["name"])
async def test_a_damaged_index_answers_as_in_vdsm(
    store: EmbeddedStore, variant: dict[str, Any]
) -> None:
    await damaged(store, variant)
    if "error" in variant["open"]:
        kind = KINDS.get(variant["open"]["error"], variant["open"]["error"])
        for question in ("lookup A", "leases", "add E", "remove A"):
            assert await answer(store, question) == {"error": kind}
        return
    for question in ("lookup A", "lookup C", "leases", "add E", "add A"):
        golden = variant[question]
        if golden.get("error") == REPEATED["error"]:
            golden = {"result": variant["lookup A"]["result"]}
        if "error" in golden:
            golden = {"error": golden["error"]}
        assert await answer(store, question) == golden, question
    if "records_0_to_4_after_adds" in variant:
        whole = read(store, BASE, SIZE)
        records = [whole[512 + n * 64 : 576 + n * 64].hex() for n in range(5)]
        assert records == variant["records_0_to_4_after_adds"]
    assert await answer(store, "remove A") == variant["remove A"]
    with pytest.raises(NoSuchLease):
        await verbs.info(store, LEASES["A"])


def test_a_truncated_index_says_how_much_there_is(store: EmbeddedStore) -> None:
    for variant in VECTORS["variants"]:
        if variant["name"] in EARLY:
            os.truncate(store.path, variant["truncate_file_to"])
            with store.volume.open() as sectors, pytest.raises(TruncatedIndex) as caught:
                store.volume.index(sectors)
            assert caught.value.expected == variant["open"]["expected"]
            assert caught.value.available == variant["open"]["available"]
            os.truncate(store.path, VECTORS["sizes"]["volume_size_used_here"])
            format_volume(store.volume, now=0)


async def test_a_lease_beyond_the_end_of_the_volume_is_not_listed_and_not_called_gone(
    store: EmbeddedStore,
) -> None:
    await final(store)
    os.truncate(store.path, 5 * BASE + 1)  # slots of A and D, and one byte of that of C
    assert [lease.lease_id for lease in await verbs.leases(store)] == [LEASES["A"], LEASES["D"]]
    with pytest.raises(InvalidMetadata, match="cut off"):
        await verbs.info(store, LEASES["C"])


async def test_a_lease_behind_the_first_look_is_found(store: EmbeddedStore) -> None:
    """The start of the index is read first; records go on behind it."""
    with store.volume.open() as sectors:
        number = store.volume.index(sectors).slots - 1
    lock = store.take_index()
    assert lock is not None
    offset = store.geometry.offset(number)
    change.write(store.volume, lock, number, index.record("last", offset), over=EMPTY)
    store.write_slot(lock, offset, fresh(store.geometry, SD_ID, "last"))
    store.give(lock)
    assert (await verbs.info(store, "last")).offset == offset == (1 << 30) - BASE
    assert (await verbs.leases(store)) == [Listed("last", offset, False)]
    assert (await verbs.status(store, "last")).owners == []
    await verbs.delete(store, "last")
    assert read(store, BASE, SIZE)[512:] == EMPTY * 3960


@pytest.mark.parametrize("name", ["a", "a" * 36, "b" * 48])
def test_a_name_is_found_only_as_a_whole_and_where_a_record_begins(name: str) -> None:
    records = EMPTY + index.record(name + "x" if len(name) < 48 else "x", 0)
    records += b"\0" * 15 + name.encode().ljust(49, b"\0") + index.record(name, 7)
    found = index.Index(SD_ID, 0, records).find(name)
    assert found is not None
    assert found.number == 3


@pytest.mark.parametrize("name", ["", "\0", "a\0", "a b", "ä", "x" * 49])
def test_what_cannot_be_a_name_is_found_nowhere(name: str) -> None:
    records = EMPTY + index.record("a", 0) + bytes(64)
    assert index.Index(SD_ID, 0, records).find(name) is None
