"""Progress only grows, whatever a meter says."""

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.progress import Progress

reports = st.lists(
    st.builds(
        Progress,
        percent=st.none() | st.floats(),
        bytes=st.none() | st.integers(0, 2**60),
        total_bytes=st.none() | st.integers(0, 2**60),
        stage=st.sampled_from(["", "copying", "flushing"]),
    ),
    min_size=1,
)


@given(reports)
def test_percent_and_bytes_never_fall_and_stay_in_range(given: list[Progress]) -> None:
    known = list(accumulate([Progress(), *given], Progress.followed_by))
    for before, after in pairwise(known):
        assert (before.percent or 0.0) <= (after.percent or 0.0) <= 100.0
        assert (before.bytes or 0) <= (after.bytes or 0)
        assert before.percent is None or after.percent is not None


def test_what_a_report_does_not_say_is_kept_but_the_moment_is_not() -> None:
    first = Progress(percent=5.0, bytes=5, total_bytes=100, rate=2.0, eta=50.0, stage="copying")
    assert first.followed_by(Progress(stage="flushing")) == Progress(
        percent=5.0, bytes=5, total_bytes=100, rate=None, eta=None, stage="flushing"
    )


@pytest.mark.parametrize("percent", [float("nan"), -1.0, -0.0])
def test_a_percent_out_of_range_does_no_harm(percent: float) -> None:
    assert Progress(percent=7.0).followed_by(Progress(percent=percent)).percent == 7.0
