"""oVirt's search: names and values, nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.rest.search import Search, parsed
from protocol.errors import BadParameter

NAMES = ("id", "name", "status")


@pytest.mark.parametrize(
    ("text", "search"),
    [
        (None, Search()),
        ("", Search()),
        ("name=x", Search({"name": "x"})),
        ('name="Default"', Search({"name": "Default"})),
        ('name="two words" and status=ok', Search({"name": "two words", "status": "ok"})),
        ("NAME = x AND id=7 page 3", Search({"name": "x", "id": "7"}, 3)),
        ("page 2", Search(page=2)),
        ("page 0", Search(page=1)),
        ("name='x'", Search({"name": "'x'"})),
    ],
)
def test_terms_are_read(text: str | None, search: Search) -> None:
    assert parsed(text, NAMES) == search


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "name",
        "name=",
        'name="x',
        "size=5",
        "name!=x",
        "name=x or name=y",
        "name=x name=y",
        "name=x and",
        "name=x and name=y",
        "name=x sortby name",
        "and name=x",
        "name=x andid=7",
        "name=" + "x" * 1000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        parsed(text, NAMES)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parsed(text, NAMES)
    except BadParameter:
        return
    assert set(found.terms) <= set(NAMES)
    assert found.page >= 1
