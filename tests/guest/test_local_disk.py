"""The tests of `inside`, run in one boot of a guest."""

from pathlib import Path

import pytest

from tests.guest import suite
from tests.guest.reports import PREFIX, Result
from tests.guest.suite import Outcome


@pytest.mark.tools("qemu-system-x86_64", "mmdebstrap", "mkfs.ext4")
def test_every_scenario_passes_in_the_guest(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """One test for all: each process of pytest-xdist would boot a guest of its own for its share.
    One that is listed and did not run has failed."""
    full = bool(request.config.getoption("--full"))
    wanted = [one.name for one in suite.listed() if full or not one.full]
    outcome = suite.run(
        tmp_path,
        *(["--full"] if full else []),
        PREFIX,
        seconds=suite.FULL_TIME if full else suite.TIME,
    )
    failures = {name: outcome.failure(name) for name in wanted}
    told = [f"{name}: {failure}" for name, failure in failures.items() if failure]
    if told:
        pytest.fail(f"{len(told)} of {len(wanted)} failed\n\n" + "\n\n".join(told), pytrace=False)


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (None, "it did not run\nthe guest has ended\nthe console"),
        (Result("a"), "it did not end\nthe guest has ended\nthe console"),
        (Result("a", "skipped", 0.0, "why"), "skipped after 0.0 s\nwhy"),
        (Result("a", "failed", 1.5, "why"), "failed after 1.5 s\nwhy"),
        (Result("a", "passed", 1.5), None),
    ],
)
def test_what_has_not_passed_in_the_guest_has_failed(
    result: Result | None, told: str | None
) -> None:
    results = {} if result is None else {"a": result}
    assert Outcome(results, None, "the console").failure("a") == told


def test_every_test_of_the_guest_is_listed() -> None:
    assert suite.collected() == suite.listed(), "run .venv/bin/python -m tests.guest --list"
