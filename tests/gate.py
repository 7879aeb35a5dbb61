"""A gate before the agent of a host: what passes can be cut off, silenced, or held for a while.

Who is to be told lies connects to its socket instead of the agent's. What passes is not changed.
"""

import itertools
import os
import select
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

CHUNK = 1 << 16
LOOK = 0.05  # seconds
WAIT = 60.0


@dataclass
class Hold:
    """What is to be held. came: it is here. go: let it pass."""

    word: bytes
    came: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float = WAIT) -> None:
        assert self.came.wait(seconds), f"nobody said {self.word.decode()}"


@dataclass
class Gate:
    """path: where clients come in. target: the socket of the agent."""

    path: Path
    target: Path
    _open: threading.Event = field(default_factory=threading.Event)
    _loud: threading.Event = field(default_factory=threading.Event)
    _end: threading.Event = field(default_factory=threading.Event)
    _hold: Hold | None = None
    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)
    _said: list[bytes] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # of the pairs, and their ends

    @property
    def url(self) -> str:
        return f"unix:{self.path}"

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Nobody comes in, and who is in is thrown out: as a cable that is pulled."""
        self._open.clear()
        self._throw_out()
        try:
            yield
        finally:
            self._open.set()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Connections stay, and nothing is heard or said on them."""
        self._loud.clear()
        try:
            yield
        finally:
            self._loud.set()

    @contextmanager
    def holding(self, method: str) -> Iterator[Hold]:
        """The next call of this verb waits here until it may go, or until the end."""
        hold = Hold(f'"{method}"'.encode())
        self._hold = hold
        try:
            yield hold
        finally:
            self._hold = None
            hold.go.set()

    def asked(self, method: str, word: str) -> int:
        """How often this verb was called with `word` among its parameters."""
        wanted = f'"{method}"'.encode(), word.encode()
        return sum(all(one in said for one in wanted) for said in self._said)

    def serve(self) -> None:
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(str(self.path))
            door.listen()
            door.settimeout(LOOK)
            while not self._end.is_set():
                with suppress(TimeoutError):
                    self._take(door.accept()[0])

    def _take(self, client: socket.socket) -> None:
        agent = socket.socket(socket.AF_UNIX)
        try:
            if not self._open.is_set():
                raise ConnectionRefusedError
            agent.connect(str(self.target))
        except OSError:
            client.close()
            agent.close()
            return
        with self._lock:
            self._pairs.append((client, agent))
        threading.Thread(target=self._carry, args=(client, agent), daemon=True).start()

    def _carry(self, client: socket.socket, agent: socket.socket) -> None:
        back = threading.Thread(target=self._pump, args=(agent, client, False), daemon=True)
        back.start()
        self._pump(client, agent, inwards=True)
        back.join()
        with self._lock:
            self._pairs.remove((client, agent))
            client.close()
            agent.close()

    def _pump(self, source: socket.socket, sink: socket.socket, inwards: bool) -> None:
        ready = select.poll()  # select knows only the first 1024 files of a process
        ready.register(source, select.POLLIN)
        with suppress(OSError):
            while not self._end.is_set():
                if not ready.poll(1000 * LOOK):
                    continue
                data = source.recv(CHUNK)
                if not data:
                    break
                while not self._loud.wait(LOOK) and not self._end.is_set():
                    pass
                if inwards:
                    self._said.append(data)
                hold = self._hold
                if hold is not None and hold.word in data and not hold.came.is_set():
                    hold.came.set()
                    hold.go.wait()
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _throw_out(self) -> None:
        with self._lock:
            for one in itertools.chain.from_iterable(self._pairs):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


@contextmanager
def gate(target: Path) -> Iterator[Gate]:
    """A gate for the body, open."""
    folder = Path(tempfile.mkdtemp(prefix="lh-gate-", dir="/tmp"))
    made = Gate(folder / "gate", target)
    made._open.set()
    made._loud.set()
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    while not made.path.exists():
        os.sched_yield()
    try:
        yield made
    finally:
        made._end.set()
        made._throw_out()
        thread.join(WAIT)
        shutil.rmtree(folder)
