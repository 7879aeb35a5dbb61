"""docs/wire.md: its session is played, its figures and names are those of the code."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from host.wire.call import READING
from host.wire.limits import DEFAULT
from protocol import jsonrpc, stomp
from protocol.errors import Error, NoSuchJob
from protocol.stomp import Decoder, Frame
from tests.host.wire.serving import raw, serving

PAGE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()
BLOCKS = re.findall(r"```(\w+)(?: (\w+))?\n(.*?)```", PAGE, re.DOTALL)


def data(block: str) -> bytes:
    """The bytes of a block: ^@ is NUL, and the line ends behind it are no part of a frame."""
    return re.sub(r"\^@\n*", "\0", block).encode()


def frames(said: bytes) -> list[Frame]:
    decoder, found = Decoder(), []
    decoder.feed(said)
    while (frame := decoder.next()) is not None:
        found.append(frame)
    assert not decoder.inside
    return found


async def test_the_session_goes_as_the_page_says() -> None:
    turns = [(who, data(block)) for kind, who, block in BLOCKS if kind == "stomp"]
    assert [who for who, _ in turns] == ["client", "server"] * 4
    async with serving() as (_, address), raw(address) as client:
        for who, said in turns:
            if who == "client":
                await client.say(said)
                continue
            for frame in frames(said):
                assert await client.frame() == frame
                assert stomp.encode(frame) == said


def rows() -> dict[str, str]:
    found = re.findall(r"^\| `([a-z_.]+)` \| (.*?) \|", PAGE, re.MULTILINE)
    return dict(found)


def test_every_limit_is_on_the_page_with_its_value() -> None:
    size = DEFAULT.frame_size
    wanted = {f"frame_size.{f.name}": getattr(size, f.name) for f in fields(size)}
    wanted |= {f.name: getattr(DEFAULT, f.name) for f in fields(DEFAULT) if f.name != "frame_size"}
    figures = {name: float(text.split()[0]) for name, text in rows().items()}
    assert figures == wanted


def test_the_verbs_of_monitors_are_on_the_page() -> None:
    (text,) = re.findall(r"a monitor may call: (.*?)\.\n\n", PAGE, re.DOTALL)
    assert set(re.findall(r"`(.*?)`", text)) == READING


@pytest.mark.parametrize(
    "error", [*jsonrpc.KINDS, jsonrpc.Forbidden], ids=lambda error: str(error.__name__)
)
def test_every_code_of_the_protocol_is_on_the_page(error: type[Error]) -> None:
    assert re.search(rf"^\| {error.code} \|", PAGE, re.MULTILINE)


def test_the_examples_of_json_are_what_is_sent() -> None:
    event, error = (json.loads(block) for kind, _, block in BLOCKS if kind == "json")
    assert json.loads(jsonrpc.notification(event["method"], event["params"])) == event
    assert jsonrpc.error_object(NoSuchJob("x")) == error
