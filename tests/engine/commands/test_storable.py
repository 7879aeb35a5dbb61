"""Whatever a host or an adapter says can be written down."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from engine.commands import storable
from engine.commands.specs import AddDisk
from protocol.errors import AdapterFailed
from protocol.managed import GIB
from tests.engine.commands.arrays import Array
from tests.engine.commands.rig import ARRAY, Rig

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))  # lone surrogates, too
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=20,
)
BAD = "no \0 power \ud800 " + "x" * 20_000


@given(st.dictionaries(ANY_TEXT, ANYTHING))
def test_it_is_json_without_what_databases_refuse(said: dict[str, Any]) -> None:
    text = msgspec.json.encode(storable.data(said)).decode()
    assert "\\u0000" not in text


def test_what_is_too_large_keeps_its_texts() -> None:
    said = {"error": {"message": "why", "data": {"n": ["x" * 100] * 10_000}}, "reason": "because"}
    assert storable.data(said) == {"error": {"message": "why"}, "reason": "because"}


def test_what_is_too_deep_ends() -> None:
    deep: Any = "end"
    for _ in range(100):
        deep = [deep]
    assert len(msgspec.json.encode(storable.data({"deep": deep}))) < 1000


async def test_a_failure_that_is_told_in_bad_characters_is_written_down(
    rig: Rig, array: Array
) -> None:
    broken = AdapterFailed("array", "create_volume", BAD)
    array.fails("create_volume", broken)
    array.fails("delete_volume", broken, broken, broken)
    async with rig.engine() as engine:
        row = await engine.run("add_disk", AddDisk(name="disk", domain=ARRAY, size=GIB))
        assert row.state == "quarantined"
        assert row.error
        assert row.error["kind"] == "AdapterFailed"
        [kept] = await engine.quarantine()
        assert "no \N{REPLACEMENT CHARACTER} power ?" in kept.reason
