"""The commands of the operator's guide and of the README can be read as they stand there."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.app import app
from engine.config import Webhooks
from engine.config_file import load
from engine.webhooks import KINDS, MOST, Pauses

TOP = Path(__file__).parents[2]
PAGES = (TOP / "docs" / "engine.md", TOP / "README.md")
# Placeholders of a type, which people replace.
VALUES = {"JOB": "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"}


def commands(page: Path) -> list[str]:
    """`leasehold engine ...`, of the blocks of sh and of the text."""
    text = page.read_text()
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    inline = "\n".join(re.findall(r"`(leasehold engine [^`]+)`", re.sub(r"```.*?```", "", text)))
    lines = re.split(r"[\n;]", f"{blocks}\n{inline}")
    found = [line.partition("#")[0].partition(" >")[0].strip(" &") for line in lines]
    return [line for line in found if line.startswith("leasehold engine ")]


FOUND = sorted({line for page in PAGES for line in commands(page)})


def test_there_are_commands_in_the_guide() -> None:
    assert len(FOUND) > 25


@pytest.mark.parametrize("line", FOUND)
def test_every_command_can_be_read(line: str) -> None:
    words = [VALUES.get(word, word) for word in shlex.split(line)[1:]]
    command: Any = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if not words and hasattr(command, "commands"):
        return  # a group, in a sentence
    with command.make_context("x", words) as context:
        assert context.params


def test_the_configuration_of_the_guide_can_be_read(tmp_path: Path) -> None:
    text = PAGES[0].read_text()
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        (tmp_path / "engine.toml").write_text(block)
        load(tmp_path / "engine.toml", {})


def test_the_engine_is_begun_with_its_configuration_and_after_a_change_started_again() -> None:
    text = PAGES[0].read_text()
    steps = (
        "\nleasehold pki init",
        "\n[listen]\n",
        "\nleasehold engine init",
        "\nsystemctl enable --now leasehold-engine",
        "`systemctl restart leasehold-engine`",
    )
    places = [text.index(step) for step in steps]
    assert places == sorted(places)


def test_the_guide_tells_what_webhooks_are_told_and_for_how_long() -> None:
    _, _, text = PAGES[0].read_text().partition("## Webhooks")
    told = re.findall(r"`([a-z]+\.(?:changed|ended))`", text.partition("\n## ")[0])
    assert sorted(told) == sorted(KINDS)
    settings = Webhooks()
    pauses = Pauses(settings.pause, settings.pause_most, settings.tries)
    hours = sum(pauses.after(tries) or 0.0 for tries in range(1, settings.tries)) / 3600
    assert 5.4 < hours < 5.5
    assert f"{settings.tries} tries over nearly five and a half hours" in text
    assert f"At most {MOST:,} deliveries" in text
