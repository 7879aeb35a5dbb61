"""Real servers and images for tests: qemu-nbd, and nbdkit with faults on demand.

Every server is a child of the test, found by its pid and ended with the body. Start them from the
main thread: they die with the thread that started them (setpriv(1), --pdeathsig).
Source: qemu-nbd(8), nbdkit(1), nbdkit-error-filter(1), nbdkit-pause-filter(1),
nbdkit-eval-plugin(1).
"""

import itertools
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import trio

from endpoints.url import NbdUnixUrl

MIB = 1 << 20
START_TIME = 20.0  # seconds until a server must listen
STOP_TIME = 5.0  # seconds between SIGTERM and SIGKILL
LOOK = 0.005  # seconds between two looks
WAIT = 20.0  # seconds until what was caused must be seen
_numbers = itertools.count()


@dataclass(frozen=True)
class Server:
    """A running server. log: what it printed."""

    process: subprocess.Popen[bytes]
    socket: Path
    export: str
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        """What the command line and the NBD tools take."""
        return NbdUnixUrl(str(self.socket), self.export).uri

    def kill(self) -> None:
        """Cut every client off, as a crash of the server does."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it as an operator does; by force when it does not listen."""
        self.process.terminate()
        try:
            self.process.wait(STOP_TIME)
        except subprocess.TimeoutExpired:
            self.kill()


@dataclass(frozen=True)
class Flaky(Server):
    """A server that answers with errors for as long as the file `trigger` exists."""

    trigger: Path

    def fail(self) -> None:
        self.trigger.touch()

    def heal(self) -> None:
        self.trigger.unlink(missing_ok=True)


@dataclass(frozen=True)
class Pausable(Server):
    """A server whose requests can be held back."""

    control: Path

    def pause(self) -> None:
        """Let the running requests end and hold all later ones back."""
        self._command(b"p", b"P")

    def resume(self) -> None:
        self._command(b"r", b"R")

    def _command(self, command: bytes, answer: bytes) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WAIT)
            client.connect(str(self.control))
            client.sendall(command)
            assert client.recv(1) == answer


@dataclass(frozen=True)
class BadFlush(Server):
    """A server that fails to flush. flushes: a file with one line for each flush asked for."""

    flushes: Path

    @property
    def count(self) -> int:
        return len(self.flushes.read_text().splitlines()) if self.flushes.exists() else 0


@contextmanager
def qemu_nbd(
    image: Path,
    folder: Path,
    *,
    format: str = "raw",
    export: str = "vol",
    read_only: bool = False,
    cache: str = "writeback",
    options: Sequence[str] = (),
) -> Iterator[Server]:
    """Serve `image` with qemu-nbd; `folder` is for its socket and log and may be shared."""
    path = _new_name(folder, "qemu-nbd", ".sock")
    argv = ["qemu-nbd", "-t", "--shared=0", "-k", str(path), "-f", format, "-x", export]
    argv += [f"--cache={cache}", "--discard=unmap", *(["-r"] if read_only else []), *options]
    with _running([*argv, str(image)], path) as (process, log):
        yield Server(process, path, export, log)


@contextmanager
def nbdkit(
    folder: Path,
    plugin: Sequence[str],
    *,
    filters: Sequence[str] = (),
    settings: Sequence[str] = (),
    read_only: bool = False,
) -> Iterator[Server]:
    """Serve with nbdkit, such as nbdkit(folder, ["memory", "1G"], filters=["rate"],
    settings=["rate=8M"]); it has one export, of any name.
    """
    path = _new_name(folder, "nbdkit", ".sock")
    argv = ["nbdkit", "-f", "-U", str(path), *(["-r"] if read_only else [])]
    argv += [f"--filter={name}" for name in filters]
    with _running([*argv, *plugin, *settings], path) as (process, log):
        yield Server(process, path, "", log)


Failing = Literal["read", "write", "all"]
_METHODS: dict[Failing, tuple[str, ...]] = {
    "read": ("error-pread",),
    "write": ("error-pwrite", "error-zero", "error-trim"),
    "all": ("error",),
}


@contextmanager
def flaky(
    folder: Path,
    image: Path,
    *,
    error: str = "EIO",
    on: Failing = "write",
    filters: Sequence[str] = (),
    settings: Sequence[str] = (),
) -> Iterator[Flaky]:
    """Serve a raw file; while the trigger exists, its reads or writes fail with `error`.

    Slow it down with filters=["delay"], settings=["wdelay=10ms"] to hit the middle of a copy.
    """
    trigger = _new_name(folder, "fail", "")
    own = [f"{method}={error}" for method in _METHODS[on]]
    own += [f"{method}-rate=100%" for method in _METHODS[on]]
    own += [f"{method}-file={trigger}" for method in _METHODS[on]]
    with nbdkit(
        folder, ["file", str(image)], filters=["error", *filters], settings=[*own, *settings]
    ) as server:
        yield Flaky(server.process, server.socket, server.export, server.log, trigger)


@contextmanager
def pausable(folder: Path, image: Path) -> Iterator[Pausable]:
    """Serve a raw file; its requests can be held back for as long as the test wants."""
    control = _new_name(folder, "control", ".sock")
    with nbdkit(
        folder, ["file", str(image)], filters=["pause"], settings=[f"pause-control={control}"]
    ) as server:
        yield Pausable(server.process, server.socket, server.export, server.log, control)


@contextmanager
def bad_flush(
    folder: Path, image: Path, *, times: Literal["always", "first", "never"] = "always"
) -> Iterator[BadFlush]:
    """Serve a raw file by shell commands: slow (a few MiB/s), but its flush fails as told.

    `first`: the first flush fails with EIO, later ones succeed, as a server may do that reports
    an error once.
    """
    flushes = _new_name(folder, "flushes", "")
    failed = "echo 'EIO the disk is gone' >&2; exit 1"
    flush = {
        "always": f"echo flush >> {flushes}; {failed}",
        "first": f"[ -e {flushes} ] && done=1; echo flush >> {flushes}; "
        f'[ -n "$done" ] || {{ {failed}; }}',
        "never": f"echo flush >> {flushes}",
    }
    methods = {
        "get_size": f"stat -c %s {image}",
        "pread": f"dd if={image} bs=256k skip=$4 count=$3 iflag=count_bytes,skip_bytes",
        "pwrite": f"dd of={image} bs=256k seek=$4 oflag=seek_bytes conv=notrunc",
        "can_write": "exit 0",
        "can_flush": "exit 0",
        "flush": flush[times],
    }
    plugin = ["eval", *(f"{name}={script}" for name, script in methods.items())]
    with nbdkit(folder, plugin) as server:
        yield BadFlush(server.process, server.socket, server.export, server.log, flushes)


_GARBAGE = """
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
while True:
    client, _ = server.accept()
    with client:
        try:
            client.sendall(b"HTTP/1.0 400 I am no NBD server\\r\\n\\r\\n" * 100)
        except OSError:
            pass
"""


@contextmanager
def garbage(folder: Path) -> Iterator[Server]:
    """A server that speaks something else than NBD."""
    path = _new_name(folder, "garbage", ".sock")
    with _running([sys.executable, "-I", "-c", _GARBAGE, str(path)], path) as (process, log):
        yield Server(process, path, "", log)


@contextmanager
def silent(folder: Path) -> Iterator[Path]:
    """The socket of a server that takes connections and never says a word."""
    path = _new_name(folder, "silent", ".sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield path


# --- images -----------------------------------------------------------------------------------


def pattern(size: int, seed: int = 1) -> bytes:
    """Bytes that look random and are always the same; without a run of zeros."""
    return random.Random(seed).randbytes(size)


def raw_image(path: Path, size: int, *, data: bytes = b"", offset: int = 0) -> Path:
    """A sparse raw image of `size` bytes with `data` at `offset`."""
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(offset)
        file.write(data)
    return path


def qcow2_image(
    path: Path, size: int, *, data: bytes = b"", offset: int = 0, backing: Path | None = None
) -> Path:
    """A qcow2 image of `size` bytes with `data` at `offset`, over the qcow2 image `backing`."""
    argv = ["qemu-img", "create", "-q", "-f", "qcow2"]
    if backing is not None:
        argv += ["-b", str(backing), "-F", "qcow2"]
    tool([*argv, str(path), str(size)])
    if data:
        draft = path.with_name(f"{path.name}.data")
        draft.write_bytes(data)
        write = f"write -q -s {draft} {offset} {len(data)}"
        tool(["qemu-io", "-f", "qcow2", "-c", write, str(path)])
        draft.unlink()
    return path


def tool(argv: Sequence[str]) -> str:
    """Run a tool that must succeed; what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


# --- processes --------------------------------------------------------------------------------


def users(path: Path | str) -> list[int]:
    """The processes whose arguments or open files mention `path`, ourselves excepted.

    Zombies have neither: they hold nothing.
    """
    name = os.fsencode(path)
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return [pid for pid in pids if pid != os.getpid() and _mentions(pid, name)]


def _mentions(pid: int, name: bytes) -> bool:
    with suppress(OSError):
        if name in Path(f"/proc/{pid}/cmdline").read_bytes():
            return True
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if name in os.fsencode(os.readlink(f"/proc/{pid}/fd/{descriptor}")):
                    return True
    return False


def ended(pid: int, seconds: float = WAIT) -> bool:
    """Whether the process is gone, at the latest after `seconds`."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


async def until(condition: Callable[[], object], seconds: float = WAIT) -> None:
    """Wait until the condition holds, which the test has caused; fail when it does not."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - the world outside sets no trio.Event
            await trio.sleep(LOOK)


# --- the rest ---------------------------------------------------------------------------------


def _new_name(folder: Path, stem: str, suffix: str) -> Path:
    """A name in `folder` that no other server of this process has: a test may start many."""
    return folder / f"{stem}{next(_numbers)}{suffix}"


@contextmanager
def _running(argv: list[str], path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a server until the end of the body, which begins when it listens on `path`."""
    log = path.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_listening(process, path, log)
        yield process, log
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIME)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_listening(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    deadline = time.monotonic() + START_TIME
    while not _accepts(path):
        assert process.poll() is None, f"{process.args!r}: {log.read_text()}"
        assert time.monotonic() < deadline, f"{process.args!r} does not listen"
        time.sleep(LOOK)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
