"""Two hosts race for one lease, again and again, and the lease is never left in between."""

import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.faults.command import new_job_id
from tests.faults.peers import Peer, peer, site_of
from tests.sanlock_hosts import Hosts

pytestmark = pytest.mark.tools("sanlock")
ROUNDS = 30  # the loser of a race waits up to a second, so the 250 are for --full
BEGIN = 0.002  # seconds until both begin at once


@pytest.fixture
def peers(hosts: Hosts, tmp_path: Path) -> Iterator[tuple[Peer, Peer]]:
    """A process on each host."""
    with (
        site_of(hosts, tmp_path) as site,
        peer(hosts.a, site) as a,
        peer(hosts.b, site) as b,
    ):
        yield a, b


@pytest.mark.parametrize("rounds", [ROUNDS, pytest.param(250, marks=pytest.mark.full)])
def test_a_race_has_one_winner_at_a_time_and_leaves_a_free_lease(
    peers: tuple[Peer, Peer], rounds: int
) -> None:
    lease_id = new_job_id()
    peers[0]("create", lease_id)
    seen: Counter[str] = Counter()
    last = None
    for number in range(rounds):
        for name, one in zip("ab", peers, strict=True):
            one.tell("race", lease_id, number, name, number * 2 + (name == "b"))
        for one in peers:
            assert one.hear() == "ready"
        begin = time.monotonic() + BEGIN
        for one in peers:
            one.tell(begin)
        found = [one.hear() for one in peers]
        held = sorted(
            (*one["held"], name) for name, one in zip("ab", found, strict=True) if "held" in one
        )
        assert all(first[1] < second[0] for first, second in pairwise(held))
        if held:
            last = (number, held[-1][2])
        assert_free(peers, lease_id, last)
        look = peers[0]("leader", lease_id)
        assert look["owners"] == []
        if look["owned"]:
            assert (look["by another"], look["released"]) == (True, True)
        seen["winners: " + "".join(sorted(one[2] for one in held))] += 1
        seen["stale leaders"] += look["owned"]
    print(f"{rounds} rounds: {dict(seen)}")  # pytest -rP shows it
    assert sum(seen[f"winners: {names}"] for names in ("a", "b", "ab")) > 0


def assert_free(peers: tuple[Peer, Peer], lease_id: str, last: tuple[int, str] | None) -> None:
    """Both hosts see a free lease, which says what the last winner wrote."""
    for one in peers:
        owners, _, metadata = one("status", lease_id)
        assert owners == []
        if last is not None:
            assert (metadata["number"], metadata["name"]) == last
