"""The share of one job in a limit for all."""

import pytest

from jobs.bandwidth import share


@pytest.mark.parametrize(
    ("own", "total", "concurrency", "expected"),
    [
        (None, None, 4, None),
        (100, None, 4, 100),
        (None, 100, 4, 25),
        (10, 100, 4, 10),
        (90, 100, 4, 25),
        (None, 1, 4, 1),  # never 0, which would mean no limit
    ],
)
def test_the_smaller_limit_counts(
    own: int | None, total: int | None, concurrency: int, expected: int | None
) -> None:
    assert share(own, total, concurrency) == expected
