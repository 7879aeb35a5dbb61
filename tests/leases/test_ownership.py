"""Who owns a lease: every row of the rule."""

import pytest

from leases import ownership
from leases.daemon import Host, HostState
from leases.leader import Leader
from leases.ownership import counts

GENERATION = 5  # of the owner, as its leader says
OWNER, OTHER = 7, 8
HELD = bytes(512)
GIVEN_BACK = bytes(52) + b"\x01" + bytes(459)


def leader(*, timestamp: int = 1000, writer: int = OWNER) -> Leader:
    return Leader(
        "space",
        "resource",
        version=3,
        owner_id=OWNER,
        owner_generation=GENERATION,
        timestamp=timestamp,
        writer_id=writer,
    )


def host(state: HostState = HostState.LIVE, generation: int = GENERATION) -> Host:
    return Host(OWNER, generation, state, timestamp=1000, io_timeout=10)


@pytest.mark.parametrize("known", [None, host(), host(HostState.FAIL), host(HostState.UNKNOWN)])
@pytest.mark.parametrize("writer", [OWNER, OTHER])
@pytest.mark.parametrize("block", [HELD, GIVEN_BACK])
def test_nobody_owns_what_was_never_owned_or_given_back(
    known: Host | None, writer: int, block: bytes
) -> None:
    assert not counts(leader(timestamp=0, writer=writer), known, block)


@pytest.mark.parametrize("state", [HostState.DEAD, HostState.FREE])
@pytest.mark.parametrize("writer", [OWNER, OTHER])
def test_a_host_that_is_dead_or_has_left_owns_nothing(state: HostState, writer: int) -> None:
    assert not counts(leader(writer=writer), host(state), HELD)


@pytest.mark.parametrize("state", [HostState.UNKNOWN, HostState.LIVE, HostState.FAIL])
def test_a_host_that_is_not_known_to_be_dead_owns_what_it_has_taken(state: HostState) -> None:
    assert counts(leader(), host(state), HELD)


def test_an_owner_of_which_nothing_is_known_counts() -> None:
    assert counts(leader(), None, HELD)


@pytest.mark.parametrize("state", HostState)
def test_a_host_that_has_joined_again_owns_nothing_of_its_former_life(state: HostState) -> None:
    assert not counts(leader(), host(state, GENERATION + 1), HELD)


@pytest.mark.parametrize("generation", [0, GENERATION - 1, GENERATION])
def test_a_generation_that_is_not_greater_says_nothing(generation: int) -> None:
    """What is known of a host may be older than its lease."""
    assert counts(leader(), host(generation=generation), HELD)


@pytest.mark.parametrize("state", [HostState.DEAD, HostState.FREE])
def test_what_is_known_of_a_former_life_says_nothing_about_this_one(state: HostState) -> None:
    assert counts(leader(), host(state, GENERATION - 1), HELD)


@pytest.mark.parametrize("known", [None, host(), host(HostState.FAIL), host(HostState.UNKNOWN)])
def test_a_leader_that_the_loser_of_a_race_wrote_after_the_release_counts_not(
    known: Host | None,
) -> None:
    assert not counts(leader(writer=OTHER), known, GIVEN_BACK)


def test_a_leader_that_the_loser_of_a_race_wrote_before_the_release_counts() -> None:
    assert counts(leader(writer=OTHER), host(), HELD)


def test_an_owner_that_wrote_its_leader_itself_counts_whatever_its_block_says() -> None:
    """The block is that of its last ballot; the leader of an acquire may be newer."""
    assert counts(leader(), host(), GIVEN_BACK)


@pytest.mark.parametrize(
    ("flags", "told"), [(0, False), (1, True), (2, False), (3, True), (1 << 31 | 1, True)]
)
def test_released_is_bit_0_of_the_flags_of_a_host_block(flags: int, told: bool) -> None:
    block = bytearray(b"\xfe" * 512)  # what stands beside them does not count
    block[52:56] = flags.to_bytes(4, "little")
    assert ownership.released(bytes(block)) is told
