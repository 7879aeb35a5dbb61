"""The tables of stages: what each must say, and the page that is made from them."""

from pathlib import Path

import pytest

from engine.commands import reference
from engine.commands.next_step import final_of, rests_on
from engine.commands.stage import CommandType, nothing
from engine.commands.states import ACTIVE, NEXT, State
from engine.commands.table import TYPES

PAGE = Path(__file__).parents[3] / "docs" / "commands.md"
kinds = pytest.mark.parametrize("kind", TYPES.values(), ids=list(TYPES))


def test_the_page_is_made_from_the_code() -> None:
    text = "python -m engine.commands.reference > docs/commands.md"
    assert PAGE.read_text() == reference.text(), text


@kinds
def test_stages_have_names_of_their_own_and_words_for_people(kind: CommandType) -> None:
    names = [stage.name for stage in kind.stages]
    assert len(set(names)) == len(names)
    assert not [stage.name for stage in kind.stages if not stage.title]
    assert not [one.name for one in kind.stages if one.undo is not None and not one.undone]
    assert kind.title


@kinds
def test_stages_rest_on_stages_before_them(kind: CommandType) -> None:
    for place, stage in enumerate(kind.stages):
        before = {one.name for one in kind.stages[:place]}
        assert set(stage.needs or ()) <= before
        assert rests_on(kind.stages, stage) <= before


@kinds
def test_behind_the_final_stage_nothing_is_undone(kind: CommandType) -> None:
    place = kind.stages.index(final_of(kind.stages))
    assert [one.name for one in kind.stages[place + 1 :] if one.undo is not None] == []
    assert sum(one.final for one in kind.stages) <= 1


@kinds
def test_what_can_be_given_up_says_what_is_kept(kind: CommandType) -> None:
    """But for undos that only look, or write rows: they leave nothing."""
    harmless = {"look", "place", "finish"}
    if kind.name in ("extend_disk", "snapshot_delete"):
        harmless |= {"extend", "remove"}
    place = kind.stages.index(final_of(kind.stages))
    for at, stage in enumerate(kind.stages):
        if (stage.undo is not None or at > place) and stage.name not in harmless:
            assert stage.kept is not nothing, stage.name


def test_every_state_can_be_reached_and_what_runs_can_end() -> None:
    reached = {State.RUNNING} | {state for states in NEXT.values() for state in states}
    assert reached == set(State)
    assert all(NEXT[state] for state in ACTIVE)
