"""docs/rest.md: its examples are played in their order, its tables are those of the code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from engine.db import disks
from engine.rest import xml
from engine.rest.command_steps import JOB_STATUS
from engine.rest.element import Node
from engine.rest.reference import tables
from tests.engine.rest.site import PASSWORD, Site

PAGE = (Path(__file__).parents[3] / "docs" / "rest.md").read_text()
BLOCKS = re.findall(r"```http\n(.*?)```", PAGE, re.DOTALL)
NAME = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Example:
    """before: ids of disks, or names for them, whose command ends first."""

    before: tuple[str, ...]
    method: str
    path: str
    headers: dict[str, str]
    body: str
    status: int
    answer: str


def example(block: str) -> Example:
    lines = block.splitlines()
    said = [line[2:] for line in lines if line.startswith(">")]
    told = [line[2:] for line in lines if line.startswith("<")]
    before = [line.removeprefix("! end ") for line in lines if line.startswith("!")]
    assert len(said) + len(told) + len(before) == len(lines), block
    method, _, path = said[0].partition(" ")
    end = said.index("") if "" in said else len(said)
    headers = dict(line.split(": ", 1) for line in said[1:end])
    body, answer = "\n".join(said[end + 1 :]), "\n".join(told[1:])
    return Example(tuple(before), method, path, headers, body, int(told[0]), answer)


class Names:
    """What the names in braces stand for; one that is new is learnt from an answer."""

    def __init__(self, known: dict[str, str]) -> None:
        self.known = known

    def put(self, text: str) -> str:
        return NAME.sub(lambda found: self.known.get(found[1], found[0]), text)

    def compare(self, wanted: str, found: str, where: str) -> None:
        """wanted: text in which a new name, or `...`, stands for anything."""
        parts = re.split(r"(\{\w+\}|\.\.\.)", self.put(wanted))
        pattern = "".join(
            f"(?P<{part[1:-1]}>.+)"
            if NAME.fullmatch(part)
            else ".*"
            if part == "..."
            else re.escape(part)
            for part in parts
        )
        match = re.fullmatch(pattern, found, re.DOTALL)
        assert match, f"{where}: {found!r} is not {wanted!r}"
        self.known |= match.groupdict()

    def json(self, wanted: Any, found: Any, where: str = "") -> None:
        """What is wanted must be there; there may be more."""
        if isinstance(wanted, dict):
            assert isinstance(found, dict), where
            for name, value in wanted.items():
                assert name in found, f"{where}.{name}: {found}"
                self.json(value, found[name], f"{where}.{name}")
        elif isinstance(wanted, list):
            assert len(wanted) == len(found), where
            for one, other in zip(wanted, found, strict=True):
                self.json(one, other, where)
        elif isinstance(wanted, str):
            self.compare(wanted, found, where)
        else:
            assert wanted == found, where

    def xml(self, wanted: Node, found: Node) -> None:
        assert wanted.tag == found.tag
        if not wanted.children:
            self.compare(wanted.text, found.text, wanted.tag)
        for one in wanted.children:
            other = found.child(one.tag)
            assert other is not None, f"{wanted.tag}.{one.tag}"
            self.xml(one, other)


def test_the_examples_are_what_happens(served: Site) -> None:
    names = Names({"folder": str(served.folder)})
    headers: dict[str, str] = {}
    assert len(BLOCKS) > 10
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        for one in map(example, BLOCKS):
            for disk in one.before:
                served.end(names.put(disk))
            body = names.put(one.body).replace("correct+horse", PASSWORD.replace(" ", "+"))
            answer = client.request(
                one.method,
                names.put(one.path),
                content=body or None,
                headers={**headers, **one.headers},
            )
            assert answer.status_code == one.status, answer.text
            if one.answer.startswith("<"):
                wanted, found = (
                    xml.read(text.encode(), depth=20, elements=1000)
                    for text in (one.answer, answer.text)
                )
                names.xml(wanted, found)
            else:
                names.json(msgspec.json.decode(one.answer), answer.json())
            headers["authorization"] = f"Bearer {names.known['token']}"
    target = served.read(lambda c: disks.get(c, names.known["target"]))
    assert target.name == "disk2"


def test_the_reference_is_that_of_the_operations() -> None:
    assert PAGE.endswith(tables())


def test_every_state_of_a_command_is_on_the_page() -> None:
    found = dict(_states())
    assert found == JOB_STATUS


def _states() -> Iterator[tuple[str, str]]:
    for states, status in re.findall(r"^\| (`.*?`) \| `(\w+)` \|", PAGE, re.MULTILINE):
        for state in re.findall(r"`(\w+)`", states):
            yield state, status


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 409, 413, 415, 429, 500, 503])
def test_every_status_of_a_fault_is_on_the_page(status: int) -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE)
    assert str(status) in [one for row in rows for one in row.split(", ")]
