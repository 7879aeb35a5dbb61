"""STOMP frames: as they were recorded, as the specification says, and never beyond the limits."""

import re

import pytest

from protocol.stomp import DEFAULT, BrokenFrame, Decoder, Frame, Limits, encode
from tests.transcripts import CLIENT, PROBES, SERVER, SESSIONS, Transcript

ALL = [*SESSIONS, *PROBES]
SMALL = Limits(head=64, headers=3, body=16)


def frames(data: bytes, limits: Limits = DEFAULT) -> list[Frame]:
    decoder = Decoder(limits)
    decoder.feed(data)
    found = []
    while (frame := decoder.next()) is not None:
        found.append(frame)
    return found


def one(data: bytes, limits: Limits = DEFAULT) -> Frame:
    (frame,) = frames(data, limits)
    return frame


def names(transcripts: list[Transcript]) -> list[str]:
    return [one.name for one in transcripts]


def test_all_sessions_and_probes_are_there() -> None:
    assert (len(SESSIONS), len(PROBES)) == (3, 55)


@pytest.mark.parametrize("who", [CLIENT, SERVER])
@pytest.mark.parametrize("transcript", ALL, ids=names(ALL))
def test_every_recorded_frame_is_decoded_and_written_again(
    transcript: Transcript, who: str
) -> None:
    data = transcript.all_of(who)
    found = frames(data)
    assert len(found) >= data.count(b"\0")
    canonical = [encode(frame) for frame in found]
    assert [frames(text) for text in canonical] == [[_counted(frame)] for frame in found]
    if who == SERVER:  # the same bytes, since we write as the recorded server did
        assert b"".join(canonical) == re.sub(rb"\0\n+", b"\0", data)


def _counted(frame: Frame) -> Frame:
    if frame.command not in ("SEND", "MESSAGE", "ERROR"):
        return frame
    return Frame(
        frame.command, {**frame.headers, "content-length": str(len(frame.body))}, frame.body
    )


@pytest.mark.parametrize("transcript", ALL, ids=names(ALL))
def test_frames_come_out_the_same_however_the_bytes_are_cut(transcript: Transcript) -> None:
    data = transcript.all_of(CLIENT)
    for size in (1, 2, 3, 7):
        decoder, found = Decoder(), []
        for at in range(0, len(data), size):
            decoder.feed(data[at : at + size])
            while (frame := decoder.next()) is not None:
                found.append(frame)
        assert found == frames(data)
        assert not decoder.inside


def test_the_first_of_repeated_headers_counts() -> None:
    assert one(b"SEND\na:1\na:2\n\n\0").headers["a"] == "1"


def test_headers_are_unescaped_but_not_those_of_connect() -> None:
    assert one(b"SEND\na\\cb:x\\n\\r\\\\y\n\n\0").headers == {"a:b": "x\n\r\\y"}
    assert one(b"CONNECT\na:x\\ny\n\n\0").headers == {"a": "x\\ny"}
    assert one(b"CONNECTED\na:b:c\n\n\0").headers == {"a": "b:c"}


def test_lines_may_end_with_cr_lf() -> None:
    frame = one(b"\r\n\nSEND\r\na:1\r\ncontent-length:2\r\n\r\n\r\n\0\r\n")
    assert (frame.headers["a"], frame.body) == ("1", b"\r\n")


def test_content_length_counts_bytes_and_lets_a_body_hold_nul() -> None:
    assert one(b"SEND\ncontent-length:5\n\na\0\xff\0b\0").body == b"a\0\xff\0b"
    assert one(b"SEND\n\nabc\0").body == b"abc"


@pytest.mark.parametrize(
    "data",
    [
        b"send\n\n\0",
        b"\0",
        b" SEND\n\n\0",
        b"SEND\nno colon\n\n\0",
        b"SEND\n:empty name\n\n\0",
        b"SEND\na:b\\tc\n\n\0",
        b"SEND\na:b\\\n\n\0",
        b"SEND\na:\rb\n\n\0",
        b"SEND\na:\xff\n\n\0",
        b"SEND\na:1\0\n\n\0",
        b"SEND\ncontent-length:x\n\n\0",
        b"SEND\ncontent-length:-1\n\n\0",
        b"SEND\ncontent-length:99999999999\n\n\0",
        b"SEND\ncontent-length:2\n\nabc\0",
        b"SUBSCRIBE\n\nbody\0",
        b"SUBSCRIBE\ncontent-length:1\n\nb\0",
        b"\rSEND\n\n\0",
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenFrame):
        frames(data)


def test_good_frames_before_a_broken_one_come_out() -> None:
    decoder = Decoder()
    decoder.feed(b"SEND\n\na\0nonsense\n\n\0")
    frame = decoder.next()
    assert frame is not None
    assert frame.body == b"a"
    with pytest.raises(BrokenFrame):
        decoder.next()


@pytest.mark.parametrize(
    "data",
    [
        b"SEND\n" + b"a" * 64,  # no end of the head in sight
        b"SEND\n" + b"a:" + b"b" * 64 + b"\n\n\0",
        b"SEND\na:1\nb:1\nc:1\nd:1\n\n\0",
        b"SEND\na:1\na:1\na:1\na:1\n\n\0",  # repeated ones count
        b"SEND\ncontent-length:17\n\n",  # before a byte of it is there
        b"SEND\n\n" + b"b" * 17,
        b"SEND\n\n" + b"b" * 17 + b"\0",
    ],
)
def test_a_frame_beyond_the_limits_is_refused_as_soon_as_that_is_seen(data: bytes) -> None:
    with pytest.raises(BrokenFrame):
        frames(data, SMALL)


def test_a_frame_at_the_limits_is_taken() -> None:
    head = b"SEND\na:1\nb:1\nc:" + b"1" * 49
    assert len(head) == SMALL.head
    assert one(head + b"\n\n" + b"b" * 16 + b"\0", SMALL).body == b"b" * 16


def test_heartbeats_are_not_kept() -> None:
    decoder = Decoder(SMALL)
    for _ in range(100):
        decoder.feed(b"\n" * 1000)
        assert decoder.next() is None
    assert (decoder.held, decoder.inside) == (0, False)


@pytest.mark.parametrize(
    "frame",
    [
        Frame("SEND", {"a": "\0"}),
        Frame("SEND", {"": "a"}),
        Frame("send"),
        Frame("SUBSCRIBE", {}, b"body"),
        Frame("CONNECT", {"a": "b\nc"}),
        Frame("CONNECTED", {"a:b": "c"}),
    ],
)
def test_what_no_frame_can_hold_is_not_written(frame: Frame) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode(frame)
