"""STOMP frames.

Oracle: BrokenFrame, or frames within the limits that are written and read back as they are; the
same frames and the same end, however the bytes were cut; and never more bytes kept than a frame
may have.
"""

from hypothesis import given
from hypothesis import strategies as st

from protocol.stomp import WITH_BODY, BrokenFrame, Decoder, Frame, Limits, encode
from tests.properties.inputs import bounded, edited, edits, flipped, some, tries

LIMITS = Limits(head=120, headers=6, body=40)
COMMANDS = ["SEND", "MESSAGE", "ERROR", "CONNECT", "CONNECTED", "SUBSCRIBE", "DISCONNECT"]
SAMPLE = (
    b"CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0\n"
    b"SUBSCRIBE\r\nid:1\r\ndestination:R\r\n\r\n\0"
    b"SEND\ndestination:a\\cb\nreply-to:R\ncontent-length:7\n\n[\0x\0\n\n]\0\n\n"
    b"SEND\ndestination:R\n\nwithout length\0"
)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
pieces = st.sampled_from(
    [b"SEND", b"\n", b"\r\n", b"\0", b"\n\n", b":", b"\\n", b"\\x", b"content-length:3", b"CONNECT"]
)
nearly = st.lists(pieces | st.binary(max_size=6), max_size=14).map(b"".join)


def read(data: bytes, size: int = 1 << 20) -> tuple[list[Frame], bool]:
    """The frames, and whether what follows them is broken."""
    decoder, found = Decoder(LIMITS), []
    with bounded():
        for at in range(0, len(data), size):
            decoder.feed(data[at : at + size])
            try:
                while (frame := decoder.next()) is not None:
                    found.append(frame)
            except BrokenFrame:
                return found, True
            assert decoder.held <= max(LIMITS.head + 3, LIMITS.body)
    return found, False


def check(data: bytes) -> list[Frame]:
    found, broken = read(data)
    for frame in found:
        assert len(frame.headers) <= LIMITS.headers
        assert len(frame.body) <= LIMITS.body
        assert frame.command in WITH_BODY or not frame.body
        length = {"content-length": str(len(frame.body))} if frame.command in WITH_BODY else {}
        kept = {k: v for k, v in frame.headers.items() if k != "content-length"}
        decoder = Decoder()
        decoder.feed(encode(frame))
        assert decoder.next() == Frame(frame.command, {**kept, **length}, frame.body)
        assert decoder.next() is None
    assert read(data, 1) == (found, broken)
    return found


@tries("stomp frame", each=6)
@given(st.binary(max_size=200) | nearly)
def test_no_bytes_crash_the_reader_or_are_kept_for_ever(data: bytes) -> None:
    check(data)
    for before in (b"SEND\n", b"SEND\n\n", b"SEND\ncontent-length:9\n\n", b"CONNECT\n", b"\n"):
        check(before + data)


@tries("stomp frame")
@given(
    st.sampled_from(COMMANDS),
    st.dictionaries(texts.filter(bool), texts, max_size=4),
    st.binary(max_size=40),
)
def test_what_is_written_is_read_back(command: str, headers: dict[str, str], body: bytes) -> None:
    frame = Frame(command, headers, body if command in WITH_BODY else b"")
    try:
        data = encode(frame)
    except ValueError:
        assert command in ("CONNECT", "CONNECTED")  # they have no escapes
        assert any({*"\n\r"} & {*k, *v} or ":" in k for k, v in headers.items())
        return
    decoder = Decoder()
    with bounded():
        decoder.feed(data + data)
        for _ in range(2):
            found = decoder.next()
            assert found is not None
            assert (found.command, found.body) == (frame.command, frame.body)
            kept = {k: v for k, v in headers.items() if k != "content-length"}
            assert {k: v for k, v in found.headers.items() if k != "content-length"} == kept
    assert not decoder.inside


@tries("stomp frame", each=64)
@given(some, st.integers(0, 63))
def test_a_flipped_byte_is_refused_or_makes_other_frames(by: int, first: int) -> None:
    for step in range(64):
        check(flipped(SAMPLE, (first + step * 5) % len(SAMPLE), by))


@tries("stomp frame", each=2)
@given(edits(len(SAMPLE)), st.integers(0, len(SAMPLE)))
def test_edited_and_torn_frames_are_refused_or_frames(
    changes: list[tuple[int, bytes]], at: int
) -> None:
    check(edited(SAMPLE, changes))
    whole = check(SAMPLE)
    assert check(SAMPLE[:at]) == whole[: len(check(SAMPLE[:at]))]
