"""What agent and worker say to each other: bounded lines, of any version."""

import msgspec
import pytest
import trio
from trio.testing import memory_stream_pair

from host import talk
from host.talk import LINE_LIMIT, Lines, Order, State, line
from jobs.progress import Progress
from tests.host.test_folder import DONE


async def heard(*chunks: bytes) -> list[bytes]:
    ours, theirs = memory_stream_pair()
    for chunk in chunks:
        await theirs.send_all(chunk)
    await theirs.aclose()
    return [one async for one in Lines(ours)]


async def test_lines_come_whole_however_they_are_cut() -> None:
    assert await heard(b"a", b"b\n", b"cd\ne\n\nf\nhalf") == [b"ab", b"cd", b"e", b"", b"f"]


async def test_a_line_without_end_is_refused() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, b"x" * (LINE_LIMIT + talk.CHUNK + 1))
        with pytest.raises(ValueError, match="a line of more than"):
            await anext(Lines(ours))
        nursery.cancel_scope.cancel()


async def test_an_end_that_breaks_is_an_end() -> None:
    ours, theirs = trio.socket.socketpair()
    await theirs.send(b"whole\nhalf")
    await ours.send(b"never read")
    theirs.close()  # with unread bytes: the other end gets ECONNRESET
    assert [one async for one in Lines(trio.SocketStream(ours))] == [b"whole"]
    ours.close()


@pytest.mark.parametrize(
    "progress",
    [
        Progress(),
        Progress(percent=99.5, bytes=1, total_bytes=2, rate=3.0, eta=4.0, stage="copying"),
        Progress(stage_percent=0.0),
    ],
)
def test_a_state_is_understood(progress: Progress) -> None:
    told = State(status="running", progress=progress, ending=DONE)
    assert msgspec.json.decode(line(told), type=State) == told


def test_a_state_of_another_version_is_understood() -> None:
    text = b'{"status":"paused","mood":1,"progress":{"bytes":5,"colour":"red"},"ending":null}'
    told = msgspec.json.decode(text, type=State)
    assert told == State(status="paused", progress=Progress(bytes=5))


def test_numbers_that_json_does_not_know_are_not_known() -> None:
    told = State(status="running", progress=Progress(rate=float("nan"), eta=float("inf")))
    assert msgspec.json.decode(line(told), type=State).progress == Progress()


def test_an_order_that_is_not_known_is_refused() -> None:
    assert msgspec.json.decode(line(Order("abort")), type=Order) == Order("abort")
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"do": "dance"}', type=Order)
