"""A client of the agent that knows nothing of our code: sockets, TLS and JSON of Python alone.

It is written from the description of the wire and of the verbs, as somebody else would write one,
and blocks. No wait is longer than WAIT.
"""

import itertools
import json
import re
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

WAIT = 30.0  # seconds until what was caused must be heard
REQUESTS = "jms.topic.vdsm_requests"
EVENTS = "jms.queue.events"
PORT = 54321
CHUNK = 1 << 16
_ESCAPES = {"\\n": "\n", "\\r": "\r", "\\c": ":", "\\\\": "\\"}


class Refused(Exception):
    """The answer to a call is an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: dict[str, Any] = error.get("data", {})

    @property
    def kind(self) -> str:
        return str(self.data.get("kind", ""))


class Closed(Exception):
    """The agent has closed the connection; the text is that of its ERROR frame, if it sent one."""


@dataclass(frozen=True)
class Frame:
    command: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def encoded(self) -> bytes:
        headers = dict(self.headers)
        if self.body:
            headers["content-length"] = str(len(self.body))
        lines = [self.command, *(f"{key}:{_escaped(value)}" for key, value in headers.items())]
        return "\n".join([*lines, "", ""]).encode() + self.body + b"\0"


def _escaped(text: str) -> str:
    return re.sub(r"[\n\r:\\]", lambda m: {v: k for k, v in _ESCAPES.items()}[m[0]], text)


def _unescaped(text: str) -> str:
    return re.sub(r"\\.", lambda m: _ESCAPES[m[0]], text)


class Connection:
    """Frames over a connected socket."""

    def __init__(self, plug: socket.socket) -> None:
        self.plug = plug
        self._data = b""
        plug.settimeout(WAIT)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.plug.close()

    def say(self, *frames: Frame | bytes) -> None:
        """Raises Closed, with the last words of the agent when it has closed before."""
        data = b"".join(one if isinstance(one, bytes) else one.encoded() for one in frames)
        try:
            self.plug.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            while True:  # until it raises
                self._last_words(self.frame())

    def frame(self) -> Frame:
        """The next one. Raises Closed."""
        while True:
            self._data = self._data.lstrip(b"\r\n")  # heart-beats
            if (found := self._whole()) is not None:
                return found
            self._more()

    def rest(self) -> list[Frame]:
        """All frames until the agent closes."""
        found = []
        while True:
            try:
                found.append(self.frame())
            except Closed:
                return found

    def _last_words(self, frame: Frame) -> None:
        if frame.command == "ERROR":
            raise Closed(frame.headers.get("message") or frame.body.decode())

    def _more(self) -> None:
        try:
            chunk = self.plug.recv(CHUNK)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError) as e:
            raise Closed(str(e)) from None
        if not chunk:
            raise Closed("")
        self._data += chunk

    def _whole(self) -> Frame | None:
        end = re.search(rb"\n\r?\n", self._data)
        if end is None:
            return None
        command, *lines = self._data[: end.start()].decode().replace("\r", "").split("\n")
        headers: dict[str, str] = {}
        for line in lines:
            key, _, value = line.partition(":")
            if command != "CONNECTED":
                key, value = _unescaped(key), _unescaped(value)
            headers.setdefault(key, value)
        rest = self._data[end.end() :]
        length = headers.get("content-length")
        size = rest.find(b"\0") if length is None else int(length)
        if size < 0 or len(rest) <= size:
            return None
        assert rest[size] == 0, self._data[:200]
        self._data = rest[size + 1 :]
        return Frame(command, headers, rest[:size])


class Client:
    """A connection that has introduced itself, hears events, and calls verbs."""

    def __init__(self, connection: Connection, *, events: bool = True) -> None:
        self.connection = connection
        self.events: deque[dict[str, Any]] = deque()
        self.answers = f"answers.{id(self)}"
        self._ids = itertools.count(1)
        connection.say(Frame("CONNECT", {"accept-version": "1.2", "heart-beat": "0,0"}))
        hello = connection.frame()
        if hello.command != "CONNECTED":
            raise Closed(hello.headers.get("message") or hello.body.decode())
        assert hello.headers["version"] == "1.2"
        self.subscribe("a", self.answers)
        if events:
            self.subscribe("e", EVENTS)

    def subscribe(self, id: str, destination: str) -> None:
        self.connection.say(
            Frame("SUBSCRIBE", {"id": id, "destination": destination, "ack": "auto"})
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.connection.plug.close()

    def call(self, method: str, /, **params: Any) -> Any:
        """The result of a verb. Raises Refused, Closed."""
        id = str(next(self._ids))
        self.send({"jsonrpc": "2.0", "method": method, "params": params, "id": id})
        answer = self.answer()
        assert set(answer) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"}), answer
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", id)
        if "error" in answer:
            raise Refused(answer["error"])
        assert answer["result"] is not None  # null crashes some clients
        return answer["result"]

    def send(self, request: Any, flow: str = "flow-1") -> None:
        """A request as JSON, or the body as it is."""
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        headers = {"destination": REQUESTS, "reply-to": self.answers, "ovirtCorrelationId": flow}
        self.connection.say(Frame("SEND", headers, body))

    def answer(self) -> Any:
        """The next answer; events that come before it are kept."""
        while True:
            message = self._message()
            if message is not None:
                return message

    def _message(self) -> Any:
        """What comes next, None for an event."""
        frame = self.connection.frame()
        if frame.command == "ERROR":
            raise Closed(frame.headers.get("message") or frame.body.decode())
        assert frame.command == "MESSAGE", frame
        assert frame.headers["content-type"] == "application/json"
        assert frame.headers["content-length"] == str(len(frame.body))
        value = json.loads(frame.body.decode("ascii"))
        if frame.headers["subscription"] != "e":
            assert frame.headers["destination"] == self.answers
            return value
        assert frame.headers["destination"] == EVENTS
        assert type(value["params"]["notify_time"]) is int
        assert set(value) == {"jsonrpc", "method", "params"}, value
        self.events.append(value)
        return None

    def event(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next event that is wanted, of those that were kept and those to come."""
        while True:
            while self.events:
                event = self.events.popleft()
                if wanted(event):
                    return event
            assert self._message() is None, "an answer that nobody asked for"

    def done(self, method: str, /, **params: Any) -> Any:
        """The result of the task of a verb, which has finished and succeeded."""
        status = self.task(method, **params)
        assert (status["taskResult"], status["code"]) == ("success", 0), status
        return status["result"]

    def task(self, method: str, /, **params: Any) -> dict[str, Any]:
        """The status of the task of a verb, which has finished before it answered."""
        task_id = self.call(method, **params)
        status: dict[str, Any] = self.call("Task.getStatus", taskID=task_id)
        assert (status["taskID"], status["taskState"]) == (task_id, "finished")
        return status

    def ended(self, job_id: str) -> dict[str, Any]:
        """The state of a job, once it has ended."""
        return self.reached(job_id, "done", "failed", "aborted")

    def reached(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """The state of a job, once it is one of these."""
        deadline = time.monotonic() + WAIT
        while True:
            state: dict[str, Any] = self.call("Host.getJobs", job_ids=[job_id])[job_id]
            if state["status"] in statuses:
                return state
            assert time.monotonic() < deadline, state
            time.sleep(0.02)


@dataclass(frozen=True)
class Certificate:
    """Files in PEM format: of the authority, of ourselves, and our key."""

    ca: str
    certificate: str
    key: str


def unix_socket(path: str) -> Connection:
    made = socket.socket(socket.AF_UNIX)
    made.connect(path)  # without a time limit: with one a long queue would be an error at once
    return Connection(made)


def tls_socket(host: str, port: int, files: Certificate) -> Connection:
    """Both sides are verified. Raises ssl.SSLError, or the first exchange raises Closed."""
    context = ssl.create_default_context(cafile=files.ca)
    context.load_cert_chain(files.certificate, files.key)
    plain = socket.create_connection((host, port), WAIT)
    return Connection(context.wrap_socket(plain, server_hostname=host))


@contextmanager
def client(connection: Connection, *, events: bool = True) -> Iterator[Client]:
    with connection, Client(connection, events=events) as made:
        yield made
