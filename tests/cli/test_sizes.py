"""Sizes, rates and durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.sizes import LIMIT, format_duration, format_rate, format_size, parse_rate, parse_size
from protocol.errors import BadParameter


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1K", 1024),
        ("1k", 1024),
        ("10M", 10 << 20),
        ("1.5G", 3 << 29),
        ("2T", 2 << 40),
        ("0.5K", 512),
    ],
)
def test_units_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text, "x") == size


@pytest.mark.parametrize(
    "text",
    ["", "-1", "-1M", "+1", "1.2", "0.3K", "K", "1KB", "1P", "0x10", "1e3", "1 M", "1_0", "inf"],
)
def test_a_text_that_is_no_whole_number_of_bytes_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadParameter, match="--limit"):
        parse_size(text, "--limit")


@pytest.mark.parametrize(
    "text", ["9" * 20, "8388608T", "1.", ".5K", "1\n", "\N{ARABIC-INDIC DIGIT TWO}"]
)
def test_a_size_must_fit_a_file_and_be_written_plainly(text: str) -> None:
    with pytest.raises(BadParameter, match="--limit"):
        parse_size(text, "--limit")


@given(st.integers(0, LIMIT))
def test_a_plain_number_is_itself(size: int) -> None:
    assert parse_size(str(size), "x") == size


@given(st.integers(0, 900 << 40))
def test_what_is_printed_is_near_and_short(size: int) -> None:
    text = format_size(size)
    assert len(text) <= 5
    number, unit = (text[:-1], text[-1]) if text[-1].isalpha() else (text, "")
    factor = 1024.0 ** " KMGT".index(unit or " ")
    assert float(number) * factor == pytest.approx(size, rel=0.006)


def test_a_rate_is_a_size_with_or_without_per_second_but_not_zero() -> None:
    assert parse_rate("5M", "x") == parse_rate("5M/s", "x") == 5 << 20
    with pytest.raises(BadParameter):
        parse_rate("0", "x")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (999, "999"), (1000, "0.98K"), (1536, "1.50K"), (123 << 20, "123M")],
)
def test_three_figures(size: int, text: str) -> None:
    assert format_size(size) == text
    assert format_rate(size) == f"{text}/s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (36061, "10:01:01")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
