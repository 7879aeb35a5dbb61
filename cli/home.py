"""Where the state of the command lives, and the lock around changes of it."""

import fcntl
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from processes import atomic_file
from protocol.errors import BadParameter

VARIABLE = "LEASEHOLD_HOME"
RETRY = 0.02  # seconds between two tries to get the lock


def home() -> Path:
    """LEASEHOLD_HOME, else the user's data directory (root: /var/lib/leasehold). May be missing."""
    if chosen := os.environ.get(VARIABLE):
        return Path(os.path.abspath(chosen))
    if os.geteuid() == 0:
        return Path("/var/lib/leasehold")
    data = os.environ.get("XDG_DATA_HOME", "")
    base = Path(data) if data.startswith("/") else Path.home() / ".local" / "share"
    return base / "leasehold"


@asynccontextmanager
async def locked(folder: Path) -> AsyncGenerator[None]:
    """Hold the lock of the home for the body, against other commands; makes the home.

    Raises BadParameter when the home cannot be made or written.
    """
    fd = _lock_file(folder)
    try:
        # By asking again: a thread that waits in flock(2) could not be cancelled.
        while not _try_lock(fd):  # noqa: ASYNC110 (another process unlocks it)
            await trio.sleep(RETRY)
        yield
    finally:
        os.close(fd)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at `path`: readers, and we after a crash, see the old or the new whole."""
    with usable(path):
        atomic_file.write(path, content)


@contextmanager
def usable(path: Path) -> Generator[None]:
    """Turn an error of the system about a file of the home into one that names it."""
    try:
        yield
    except OSError as e:
        raise BadParameter(VARIABLE, f"{e.filename or path}: {e.strerror or e}") from e


def _lock_file(folder: Path) -> int:
    with usable(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
