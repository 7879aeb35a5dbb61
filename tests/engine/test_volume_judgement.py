"""What a volume says about its job: the table, cell by cell, and into the table of leases."""

from collections import Counter
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.answers import (
    Fenced,
    FenceFailed,
    Free,
    HostState,
    LookFailed,
    NotReported,
    Owned,
    Told,
)
from engine.decide import Do, decide
from engine.heard import FENCES, Bounds, Facts, Fence, Lease, lease, recorded
from engine.volume_judgement import (
    ROWS,
    TABLE,
    Hold,
    Legality,
    Moved,
    Says,
    VolumeInfo,
    VolumeLease,
    cell,
    fence_generation,
    lease_code,
    volume_view,
)
from protocol.errors import (
    AcquireLockFailure,
    GenerationMismatch,
    ImageDoesNotExistInSD,
    InvalidVolumeMetadata,
    VolumeDoesNotExist,
)
from protocol.record import Expectation

JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
BOUNDS = Bounds()


def answer(generation: int, legality: str = "ILLEGAL", owners: Any = ()) -> dict[str, Any]:
    """Of Volume.getInfo."""
    told = {} if owners is None else {"owners": list(owners)}
    return {
        "uuid": "v",
        "generation": generation,
        "legality": legality,
        "lease": {"path": "/x", "offset": 0, **told},
    }


def says(told: dict[str, Any], generation: int) -> Lease:
    """In the words of the table of leases."""
    view = volume_view(told, Expectation(JOB, generation))
    facts = Facts(HostState.NOT_UP, NotReported(), view, looks_failed=1)
    return lease(facts, Expectation(JOB, generation), BOUNDS)


# --- the table ----------------------------------------------------------------------------------


def test_every_combination_is_in_exactly_one_row() -> None:
    often = Counter(cell for row in ROWS for cell in row.cells)
    assert set(often) == set(product(Hold, Moved, Legality)) == set(TABLE)
    assert {cell for cell, times in often.items() if times > 1} == set()


def test_every_row_is_numbered_and_every_word_is_said() -> None:
    assert [row.number for row in ROWS] == ["v1", "v2", "v3", "v4", "v5", "v6", "v6"]
    assert {row.says for row in ROWS} == set(Says)


def test_success_is_one_cell_alone() -> None:
    found = [cell for cell, row in TABLE.items() if row.says is Says.SUCCEEDED]
    assert found == [(Hold.FREE, Moved.ONCE, Legality.LEGAL)]


def test_nothing_is_decided_while_the_lease_is_held_or_nobody_tells() -> None:
    for (hold, _, _), row in TABLE.items():
        if hold is not Hold.FREE:
            assert row.says in (Says.HELD, Says.NOTHING)


@pytest.mark.parametrize("g", [0, 1, 500, 997, 998, 999])
def test_generations_go_round(g: int) -> None:
    def moved(generation: int) -> Moved:
        return cell(VolumeInfo(generation % 1000, "LEGAL"), g)[1]

    assert (moved(g), moved(g + 1), moved(g + 3)) == (Moved.NOT, Moved.ONCE, Moved.FENCED)
    assert {moved(g + step) for step in (2, 4, 500, 997, 999)} == {Moved.OTHERWISE}
    assert fence_generation(g) == (g + 3) % 1000


# --- row by row, in the words of a lease --------------------------------------------------------


@pytest.mark.parametrize("generation", [7, 8, 9, 10, 600])
@pytest.mark.parametrize("legality", ["LEGAL", "ILLEGAL"])
def test_row_v1_a_held_volume_is_held_whatever_it_says(generation: int, legality: str) -> None:
    assert says(answer(generation, legality, owners=[2]), 7) is Lease.HELD
    assert volume_view(answer(7, owners=[2, 3]), Expectation(JOB, 7)) == Owned((2, 3))


@pytest.mark.parametrize("generation", [7, 8, 10])
def test_row_v2_a_host_that_cannot_tell_who_holds_it_is_another_look(generation: int) -> None:
    assert says(answer(generation, "LEGAL", owners=None), 7) is Lease.UNREAD


def test_row_v3_the_next_generation_and_legal_is_success() -> None:
    assert says(answer(8, "LEGAL"), 7) is Lease.SUCCEEDED
    assert says(answer(0, "LEGAL"), 999) is Lease.SUCCEEDED


@pytest.mark.parametrize("legality", ["LEGAL", "ILLEGAL", "FAKE"])
def test_row_v4_three_generations_on_is_fenced(legality: str) -> None:
    assert says(answer(10, legality), 7) is Lease.FENCED
    assert says(answer(2, legality), 999) is Lease.FENCED


@pytest.mark.parametrize("legality", ["LEGAL", "ILLEGAL"])
def test_row_v5_the_same_generation_is_to_be_fenced(legality: str) -> None:
    assert says(answer(7, legality), 7) is Lease.PENDING


@pytest.mark.parametrize("told", [answer(8, "ILLEGAL"), answer(9, "LEGAL"), answer(6, "LEGAL")])
def test_row_v6_everything_else_is_not_of_this_job(told: dict[str, Any]) -> None:
    assert says(told, 7) is Lease.OTHER


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (VolumeDoesNotExist.code, Lease.GONE),
        (ImageDoesNotExistInSD.code, Lease.GONE),
        (InvalidVolumeMetadata.code, Lease.GARBLED),
        (358, Lease.UNREAD),
        (100, Lease.UNREAD),
    ],
)
def test_what_a_host_says_of_a_volume_means_the_same_of_a_lease(code: int, found: Lease) -> None:
    facts = Facts(HostState.NOT_UP, NotReported(), LookFailed(lease_code(code)))
    assert lease(facts, Expectation(JOB, 7), BOUNDS) is found


def test_a_fence_that_finds_another_generation_looks_again() -> None:
    assert FENCES[lease_code(GenerationMismatch.code)] is Fence.ENDED
    assert FENCES[lease_code(AcquireLockFailure.code)] is Fence.HELD
    assert FENCES[lease_code(VolumeDoesNotExist.code)] is Fence.REFUSED


# --- all of it ----------------------------------------------------------------------------------

json = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1001) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=3,
)
legalities = st.sampled_from(["LEGAL", "ILLEGAL", "FAKE", ""])
owners = st.none() | st.lists(st.integers(1, 2000), max_size=2)
volumes = st.builds(answer, st.integers(0, 999), legalities, owners)
nearly = st.builds(
    lambda told, key, value: {**told, key: value},
    volumes,
    st.sampled_from(["generation", "legality", "lease"]),
    json | st.dictionaries(st.sampled_from(["owners", "path"]), json),
)
fences = st.sampled_from([None, Fenced(), FenceFailed(651), FenceFailed(912), FenceFailed(100)])
reports = st.sampled_from([NotReported(), *map(Told, ("running", "done", "failed", "aborted"))])


@given(volumes | nearly | json, st.integers(0, 999), reports, fences)
def test_there_is_one_safe_answer_to_every_volume(
    told: Any, g: int, report: Any, fence: Any
) -> None:
    expected = Expectation(JOB, g)
    view = volume_view(told, expected)
    decision = decide(Facts(HostState.UP, report, view, fence), expected, BOUNDS)
    free = isinstance(view, Free)
    if decision.do is Do.DONE:
        assert free
        assert (told["legality"], told["generation"]) == ("LEGAL", (g + 1) % 1000)
        assert told["lease"]["owners"] == []
    if decision.do is Do.FAILED and not isinstance(fence, Fenced):
        assert free
        assert (told["generation"], told["lease"]["owners"]) == ((g + 3) % 1000, [])
    if decision.do is Do.FENCE and free:
        assert told["generation"] == g


@given(volumes, st.integers(0, 999))
def test_a_volume_that_can_be_read_is_held_or_free(told: dict[str, Any], g: int) -> None:
    view = volume_view(told, Expectation(JOB, g))
    held = told["lease"].get("owners")
    if held is None:
        assert isinstance(view, LookFailed)
    elif held:
        assert view == Owned(tuple(held))
    else:
        assert isinstance(view, Free)
        assert str(told["generation"]) in str(view)
        is_known = recorded(view.metadata, Expectation(JOB, g)) is not Lease.OTHER
        info = VolumeInfo(told["generation"], told["legality"], VolumeLease([]))
        assert is_known == (TABLE[cell(info, g)].says is not Says.OTHER)
