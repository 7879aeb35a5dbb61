"""docs/adapters.md says what is true: its commands are run, its tables compared with the code."""

import re
from pathlib import Path

import pytest

from engine.adapters.commands import COMMANDS
from tests import tours

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"


@pytest.mark.tools("qemu-nbd", "qemu-io", "nbdinfo")
def test_the_example_is_what_happens() -> None:
    steps = tours.tour(PAGE)
    assert len(steps) > 20
    tours.check(steps, tours.run_here(steps))


def test_every_command_is_listed_with_its_arguments() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([A-Z \[\]]*)\|", PAGE.read_text(), re.MULTILINE)
    listed = {name: usage.strip() for name, usage in rows}
    assert listed == {name: command.usage for name, command in COMMANDS.items()}
