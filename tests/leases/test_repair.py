"""What a rebuild decides about one slot and its record."""

import pytest

from leases import index, leader, lvb
from leases.index import EMPTY, Place
from leases.repair import Content, Repair, choose, lease_of
from protocol.record import JobRecord

SD_ID = "11111111-2222-4333-8444-555555555555"
KEEP, RESTORE, WRITE, CLEAR = Repair.KEEP, Repair.RESTORE, Repair.WRITE, Repair.CLEAR
KEYS = {
    "type": "JOB",
    "generation": 3,
    "job_id": "abcdef50-6666-4777-8888-999999999991",
    "job_status": "PENDING",
}
JOB = lvb.encode(JobRecord(KEYS))
FREE = Place(0, EMPTY)
NAMED = Place(0, index.record("a", 0))
DAMAGED = Place(0, b"?" * 64)
NOBODYS = Content(used=False, lease_id=None)
STRANGERS = Content(used=True, lease_id=None)


def of(lease_id: str, block: bytes = bytes(512)) -> Content:
    return Content(used=True, lease_id=lease_id, block=block)


@pytest.mark.parametrize(
    ("place", "lease_id", "content", "elsewhere", "repair"),
    [
        (NAMED, "a", of("a"), True, KEEP),
        (NAMED, "a", NOBODYS, False, WRITE),
        (NAMED, "a", of("b"), False, WRITE),
        (NAMED, "a", of("b", JOB), False, WRITE),  # the index wins
        (NAMED, "a", STRANGERS, False, WRITE),
        (FREE, None, NOBODYS, False, KEEP),
        (FREE, None, of("b"), False, CLEAR),
        (FREE, None, of("b", JOB), False, RESTORE),
        (FREE, None, of("b", JOB), True, CLEAR),
        (FREE, None, STRANGERS, False, CLEAR),
        (DAMAGED, None, NOBODYS, False, CLEAR),
        (DAMAGED, None, of("b"), False, RESTORE),
        (DAMAGED, None, of("b", JOB), False, RESTORE),
        (DAMAGED, None, of("b"), True, CLEAR),
        (DAMAGED, None, of("b", JOB), True, CLEAR),
        (DAMAGED, None, STRANGERS, False, CLEAR),
        # The lease of this record has another one, which is the better.
        (NAMED, None, NOBODYS, False, CLEAR),
        (NAMED, None, of("a"), True, CLEAR),
        (NAMED, None, of("b"), False, RESTORE),
    ],
)
def test_the_repair_of_a_slot_and_its_record(
    place: Place, lease_id: str | None, content: Content, elsewhere: bool, repair: Repair
) -> None:
    assert choose(place, lease_id, content, elsewhere=elsewhere) is repair


@pytest.mark.parametrize(
    ("record", "lease_id"),
    [
        (index.record("a", 0), "a"),
        (index.record("x" * 48, 0, updating=True), "x" * 48),
        (EMPTY, None),
        (EMPTY[:63] + b"?", None),
        (index.record("a b", 0), None),
        (index.record("a\0b", 0), None),
        (b"\xff" + index.record("a", 0)[1:], None),
        (index.record("a", 0)[:48] + b"x" + index.record("a", 0)[49:], None),
        (index.record("a", 0)[:49] + b"x" + index.record("a", 0)[50:], None),
        (bytes(64), None),
    ],
)
def test_a_record_is_of_the_lease_that_a_lookup_finds_by_it(
    record: bytes, lease_id: str | None
) -> None:
    assert lease_of(Place(0, record)) == lease_id
    found = index.Index(SD_ID, 0, record).find(lease_id or "a")
    assert (found is not None) == (lease_id is not None or record[:49] == NAMED.record[:49])


@pytest.mark.parametrize(
    ("keys", "job"),
    [
        ({}, True),
        ({"type": "job"}, True),
        ({"job_status": "FENCED", "more": [1]}, True),
        ({"type": "VOLUME"}, False),
        ({"type": None}, False),
        ({"generation": 1000}, False),
        ({"generation": "3"}, False),
        ({"job_status": "RUNNING"}, False),
        ({"job_id": "somebody"}, False),
    ],
)
def test_a_value_block_is_of_a_job_when_all_its_keys_are_right(
    keys: dict[str, object], job: bool
) -> None:
    assert of("a", lvb.encode(JobRecord({**KEYS, **keys}))).job is job


@pytest.mark.parametrize("key", KEYS)
def test_a_value_block_without_a_key_is_of_no_job(key: str) -> None:
    keys = {k: v for k, v in KEYS.items() if k != key}
    assert not of("a", lvb.encode(JobRecord(keys))).job


@pytest.mark.parametrize("block", [b"", bytes(512), b"{}".ljust(512, b"\0"), b"?" * 512])
def test_other_value_blocks_are_of_no_job(block: bytes) -> None:
    assert not of("a", block).job


def test_the_content_of_a_slot_is_that_of_its_leader() -> None:
    def content(space: str, name: str) -> Content:
        return Content.of(leader.fresh(space, name, sector=512, alignment=1 << 20), SD_ID)

    assert content(SD_ID, "a") == Content(True, "a")
    assert content("", "") == NOBODYS
    assert content(SD_ID, "") == NOBODYS
    assert content("other", "a") == STRANGERS
    assert content(SD_ID, "a b") == STRANGERS
    whole = leader.fresh(SD_ID, "a", sector=512, alignment=1 << 20)
    assert Content.of(whole[:170] + b"?" + whole[171:], SD_ID) == NOBODYS
    assert Content.of(bytes(512), SD_ID) == NOBODYS
