"""STOMP 1.2 frames: bytes to frames and back, pure and bounded.

A frame is a command, headers, an empty line, a body, and a NUL. Between frames a line end is a
heart-beat. Nothing here knows a connection. Source: docs/wire.md, and the STOMP specification 1.2.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

HEARTBEAT = b"\n"
WITH_BODY = frozenset({"SEND", "MESSAGE", "ERROR"})
# These two predate escapes, and are written without them.
UNESCAPED = frozenset({"CONNECT", "CONNECTED"})

_COMMAND = re.compile(r"[A-Z]{1,16}\Z")
_NUMBER = re.compile(r"[0-9]{1,10}\Z")
_HEAD_END = re.compile(rb"\n\r?\n")
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
_SPECIAL = re.compile(r"[\\\r\n:]")
_MEANING = {"n": "\n", "r": "\r", "c": ":", "\\": "\\"}
_WRITTEN = {value: "\\" + key for key, value in _MEANING.items()}


class BrokenFrame(ValueError):
    """The bytes are no frame, or one beyond the limits: what follows cannot be made sense of."""


@dataclass(frozen=True)
class Limits:
    """head: bytes of command and headers. headers: how many. body: bytes."""

    head: int = 16 << 10
    headers: int = 64
    body: int = 1 << 20


DEFAULT = Limits()


@dataclass(frozen=True)
class Frame:
    """headers: unescaped; of repeated ones the first. body: without its NUL."""

    command: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Decoder:
    """Frames out of a stream of bytes. It keeps one frame at most, and what was fed last.

    decoder.feed(chunk)
    while (frame := decoder.next()) is not None:
        ...
    """

    def __init__(self, limits: Limits = DEFAULT) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer in which the end was not
        self._head: tuple[str, dict[str, str]] | None = None
        self._length: int | None = None  # of the body, once the head is there and says it

    @property
    def held(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)

    @property
    def inside(self) -> bool:
        """A frame has begun and is not complete."""
        return bool(self._buffer) or self._head is not None

    def feed(self, data: bytes) -> None:
        """Take in what came. Ask `next` until there is no frame before feeding more."""
        self._buffer += data

    def clear(self) -> None:
        """Forget what was fed and is no frame yet."""
        self._drop(len(self._buffer))

    def next(self) -> Frame | None:
        """The next frame; None: more bytes are needed. BrokenFrame: close the connection."""
        if self._head is None and not self._read_head():
            return None
        assert self._head is not None
        body = self._read_body(self._head[0])
        if body is None:
            return None
        command, headers = self._head
        self._head = self._length = None
        return Frame(command, headers, body)

    def _read_head(self) -> bool:
        self._skip_heartbeats()
        found = _HEAD_END.search(self._buffer, max(0, self._searched - 2))
        size = len(self._buffer) if found is None else found.start()
        if self._buffer.find(b"\0", max(0, self._searched - 2), size) >= 0:
            raise BrokenFrame("NUL before the empty line")
        if size > self._limits.head:
            raise BrokenFrame(f"more than {self._limits.head} bytes of headers")
        self._searched = size
        if found is None:
            return False
        self._head = _read_head(bytes(self._buffer[:size]), self._limits)
        self._length = self._content_length(*self._head)
        self._drop(found.end())
        return True

    def _skip_heartbeats(self) -> None:
        at = 0
        while self._buffer.startswith((b"\n", b"\r\n"), at):
            at += 1 if self._buffer[at] == 10 else 2
        if at:
            self._drop(at)

    def _content_length(self, command: str, headers: Mapping[str, str]) -> int | None:
        text = headers.get("content-length")
        if text is None:
            return None if command in WITH_BODY else 0
        if not _NUMBER.match(text):
            raise BrokenFrame("content-length is no number")
        if int(text) > self._limits.body:
            raise BrokenFrame(f"a body of more than {self._limits.body} bytes")
        if int(text) and command not in WITH_BODY:
            raise BrokenFrame(f"{command} has no body")
        return int(text)

    def _read_body(self, command: str) -> bytes | None:
        size = self._length
        if size is None:
            size = self._buffer.find(b"\0", self._searched)
            if max(size, len(self._buffer) if size < 0 else 0) > self._limits.body:
                raise BrokenFrame(f"a body of more than {self._limits.body} bytes")
            if size < 0:
                self._searched = len(self._buffer)
                return None
        if len(self._buffer) <= size:
            return None
        if self._buffer[size]:
            raise BrokenFrame("no NUL after the body" if size else f"{command} has no body")
        body = bytes(self._buffer[:size])
        self._drop(size + 1)
        return body

    def _drop(self, size: int) -> None:
        del self._buffer[:size]
        self._searched = 0


def encode(frame: Frame) -> bytes:
    """The bytes of a frame; `content-length` is counted and comes last, where there may be a body.

    Raises ValueError for what no frame can hold: a NUL in a header; a line end or a colon in a
    header of CONNECT and CONNECTED; a body elsewhere than in SEND, MESSAGE and ERROR.
    """
    if not _COMMAND.match(frame.command):
        raise ValueError(f"no command: {frame.command!r}")
    headers = {k: v for k, v in frame.headers.items() if k != "content-length"}
    if frame.command in WITH_BODY:
        headers["content-length"] = str(len(frame.body))
    elif frame.body:
        raise ValueError(f"{frame.command} has no body")
    escaped = frame.command not in UNESCAPED
    lines = [_header(name, value, escaped) for name, value in headers.items()]
    head = "\n".join([frame.command, *lines, "", ""]).encode()
    return head + frame.body + b"\0"


def _header(name: str, value: str, escaped: bool) -> str:
    if not name or "\0" in name + value:
        raise ValueError(f"no header: {name!r}")
    if escaped:
        return f"{_escape(name)}:{_escape(value)}"
    if ":" in name or "\n" in name + value or "\r" in name + value:
        raise ValueError(f"no header without escapes: {name!r}")
    return f"{name}:{value}"


def _escape(text: str) -> str:
    return _SPECIAL.sub(lambda found: _WRITTEN[found[0]], text)


def _unescape(text: str) -> str:
    return _ESCAPE.sub(_meaning, text) if "\\" in text else text


def _meaning(found: re.Match[str]) -> str:
    try:
        return _MEANING[found[1]]
    except KeyError:
        raise BrokenFrame("an escape that does not exist") from None


def _read_head(head: bytes, limits: Limits) -> tuple[str, dict[str, str]]:
    try:
        lines = [line.removesuffix("\r") for line in head.decode().split("\n")]
    except UnicodeDecodeError:
        raise BrokenFrame("headers that are not UTF-8") from None
    command = lines.pop(0)
    if not _COMMAND.match(command):
        raise BrokenFrame("no command")
    if len(lines) > limits.headers:
        raise BrokenFrame(f"more than {limits.headers} headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or "\r" in line:
            raise BrokenFrame("a line that is no header")
        if command not in UNESCAPED:
            name, value = _unescape(name), _unescape(value)
        headers.setdefault(name, value)
    return command, headers
