"""docs/judgement.md tells what the table does."""

import re
from dataclasses import astuple
from pathlib import Path

from engine.decide import ROWS
from engine.heard import Bounds
from engine.host_rounds import PAUSES
from engine.lease_poller import CALL_TIME
from engine.unresolved import Unresolved
from engine.volume_judgement import ROWS as VOLUME_ROWS

TEXT = (Path(__file__).parents[2] / "docs" / "judgement.md").read_text()


def test_every_row_is_on_the_page() -> None:
    told = re.findall(r"^\| (\d+[a-d]?) \|", TEXT, re.MULTILINE)
    assert set(told) == {row.number for row in ROWS} | {"13"}
    assert told == sorted(told, key=lambda row: (int(row.rstrip("abcd")), row))


def test_every_row_of_volumes_is_on_the_page() -> None:
    told = re.findall(r"^\| (v\d) \|", TEXT, re.MULTILINE)
    assert told == [row.number for row in VOLUME_ROWS]


def test_every_cause_of_unresolved_has_a_section_that_names_its_rows() -> None:
    sections = dict(re.findall(r"^### (\w+)\n\n((?:.+\n)+)", TEXT, re.MULTILINE))
    assert set(sections) == set(Unresolved.__members__)
    for cause in Unresolved:
        named = re.search(r"\(rows? ([^)]*)\)", sections[cause.name])
        assert named
        assert set(named[1].split(", ")) == {row.number for row in ROWS if row.cause is cause}


def test_every_advice_names_commands_as_they_are_typed() -> None:
    for cause in Unresolved:
        action = cause.action(sd="SD", lease="LEASE")
        assert "{" not in action
        for told in re.findall(r"`([^`]*)`", action):
            assert told in TEXT


def test_the_defaults_of_all_bounds_are_on_the_page() -> None:
    table = TEXT.split("## How often, how long")[1].split("\n\n")[1].splitlines()[2:]
    told = [float(number) for row in table for number in re.findall(r"^[^|]*\| (\d+)", row[1:])]
    defaults = [float(bound) for bound in astuple(Bounds())]
    assert told == [*defaults, CALL_TIME, PAUSES[0]]
