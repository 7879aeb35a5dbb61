"""The real command under fire: its processes, found through /proc, and what is left of it.

Every process of a command, however it was orphaned, has the TMPDIR of its test in its environment:
that is how it is found. Source: proc(5).
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import trio

from endpoints.disk import locks as target_locks
from endpoints.domain import create_domain, open_store
from endpoints.locks import Mode, held
from endpoints.url import parse
from leases import verbs
from leases.store import Store
from leases.verbs import LeaseStatus
from protocol.errors import NoSuchLease
from storage import domain
from tests.cli.run import ROOT, Ended

PATIENCE = 60.0  # seconds; a test that waits this long has failed
LOOK = 0.002  # seconds between two looks
LEASES = 8
SETPRIV = "/usr/bin/setpriv"
T = TypeVar("T")


class Process(NamedTuple):
    """A process that lived at some time. started: in ticks, so that a pid used again differs."""

    pid: int
    started: int


@dataclass(frozen=True)
class Running:
    """A command that was started and not yet waited for."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, and wait for it."""
        self.process.kill()
        await self.wait()

    async def wait(self, seconds: float = PATIENCE) -> Ended:
        with trio.fail_after(seconds):
            while not self.over:  # noqa: ASYNC110 - Popen has no event
                await trio.sleep(LOOK)
        out, err = (path.read_text(errors="replace") for path in (self.out, self.err))
        assert "Traceback" not in err, err
        return Ended(self.process.returncode, out, err)


@dataclass(frozen=True)
class Command:
    """The installed command with a home and a folder for temporary files of its own."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def temporary(self) -> Path:
        """What a command leaves here, it has forgotten."""
        return self.folder / "tmp"

    def environment(self, changed: Mapping[str, str] | None = None) -> dict[str, str]:
        own = {"LEASEHOLD_HOME": str(self.home), "TMPDIR": str(self.temporary)}
        return {**os.environ, **own, **(changed or {})}

    @contextmanager
    def started(
        self,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        before: str | None = None,
        group: bool = False,
    ) -> Iterator[Running]:
        """The command while it runs; killed at the end of the body if it still does.

        before: Python that is executed in the process before the command, to break something.
        group: give it a process group of its own.
        """
        name = uuid.uuid4().hex
        out, err = self.folder / f"{name}.out", self.folder / f"{name}.err"
        argv = [str(Path(sys.executable).with_name("leasehold"))]
        if before is not None:
            code = f"{before}\nimport sys; from cli.main import main; sys.exit(main())"
            argv = [sys.executable, "-c", code]
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [SETPRIV, "--pdeathsig", "KILL", "--", *argv, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**self.environment(environment), "PYTHONPATH": str(ROOT)},
                cwd=self.folder,
                start_new_session=group,
            )
        try:
            yield Running(process, out, err)
        finally:
            process.kill()
            process.wait()

    async def __call__(self, *arguments: object, **options: Any) -> Ended:
        """Run the command to its end."""
        with self.started(*arguments, **options) as running:
            return await running.wait()

    # --- its leases ---------------------------------------------------------------------------

    async def prepared(self) -> None:
        """Make the default domain with room for a few leases; else the first copy makes it."""
        await create_domain(str(self.home / "leases"), leases=LEASES)

    def domain_folder(self) -> domain.Domain | None:
        mount = self.home / "leases"
        found = domain.find(str(mount)) if mount.is_dir() else []
        assert len(found) <= 1, found
        return found[0] if found else None

    async def store(self) -> Store | None:
        found = self.domain_folder()
        return None if found is None else await open_store(found)

    async def status(self, job_id: str) -> LeaseStatus | None:
        """What the lease of a job says; None: there is none."""
        store = await self.store()
        with suppress(NoSuchLease):
            return None if store is None else await verbs.status(store, job_id)
        return None

    async def record(self, job_id: str) -> tuple[str, int]:
        """job_status and generation in the free lease of a job."""
        status = await self.status(job_id)
        assert status is not None
        assert status.owners == []
        assert status.metadata is not None
        assert status.metadata["job_id"] == job_id
        return status.metadata["job_status"], status.metadata["generation"]

    async def leases(self) -> list[str]:
        store = await self.store()
        return [] if store is None else [one.lease_id for one in await verbs.leases(store)]

    async def fence(self, job_id: str) -> Ended:
        found = self.domain_folder()
        assert found is not None
        expected = ("--job-id", job_id, "--generation", 0)
        return await self("lease", "fence", found.id, job_id, *expected, "--json")

    # --- its processes ------------------------------------------------------------------------

    def family(self) -> dict[Process, list[str]]:
        """The living processes of all commands of this test, and their arguments."""
        mark = b"TMPDIR=" + os.fsencode(self.temporary) + b"\0"
        return {
            process: arguments(process.pid)
            for process in map(seen, _pids())
            if process is not None and mark in _of_any_thread(process.pid, "environ")
        }

    def tools(self, name: str, *mentioned: object) -> dict[Process, list[str]]:
        """Those of the family that are the tool `name` and have these words in an argument."""
        return {
            process: argv
            for process, argv in self.family().items()
            if Path(argv[0]).name == name
            and all(any(str(word) in one for one in argv) for word in mentioned)
        }

    async def alone(self) -> None:
        """Wait until nothing of the family lives."""
        await until(lambda: not self.family(), lambda: f"still there: {self.family()}")

    async def nothing_left(self, *, temporary: bool = True) -> None:
        """No process, and unless it was killed with SIGKILL no temporary file either."""
        await self.alone()
        if temporary:
            assert list(self.temporary.iterdir()) == []


@contextmanager
def command(folder: Path) -> Iterator[Command]:
    """A command whose home is removed at the end: a domain takes much space."""
    made = Command(folder)
    made.temporary.mkdir()
    try:
        yield made
    finally:
        for process in made.family():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        shutil.rmtree(made.home, ignore_errors=True)


def new_job_id() -> str:
    return str(uuid.uuid4())


async def until(condition: Callable[[], T], failure: Callable[[], str] = lambda: "") -> T:
    """Wait until the condition holds, which the test has caused; what it answered then."""
    with trio.move_on_after(PATIENCE):
        while not (answer := condition()):  # noqa: ASYNC110 - the world outside has no events
            await trio.sleep(LOOK)
        return answer
    raise AssertionError(f"it never came true: {failure()}")


async def target_is_unlocked(url: str) -> None:
    """Wait until every lock of the target of a copy is free, and nobody has it open to write."""
    locks = target_locks(parse(url), Mode.EXCLUSIVE)
    with trio.fail_after(PATIENCE):
        async with held(locks):
            pass
    if url.startswith("/"):
        await until(lambda: not writers(Path(url)), lambda: f"{writers(Path(url))}")


def writers(path: Path) -> set[Process]:
    """The processes that have a file or device open for writing, ourselves excepted.

    Looks at every thread: a leader that is a zombie says nothing about the others.
    """
    return {
        process
        for process in map(seen, _pids())
        if process is not None and process.pid != os.getpid() and writes(process.pid, path)
    }


def seen(pid: int) -> Process | None:
    """The process as it lives now; None: there is none any more."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return Process(pid, int(text.rpartition(")")[2].split()[19]))


def arguments(pid: int) -> list[str]:
    return _of_any_thread(pid, "cmdline").decode(errors="replace").split("\0")[:-1] or [""]


def children(pid: int) -> set[int]:
    """The processes that this one is the parent of, zombies included."""
    found: set[int] = set()
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found.update(map(int, (thread / "children").read_text().split()))
    return found


def bytes_in(path: Path) -> int:
    """Bytes of a sparse file that have been written, as far as one can see."""
    return path.stat().st_blocks * 512 if path.exists() else 0


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _threads(pid: int) -> list[Path]:
    with suppress(OSError):
        return list(Path(f"/proc/{pid}/task").iterdir())
    return []


def _of_any_thread(pid: int, name: str) -> bytes:
    """A file of /proc, from the first thread that still has it."""
    for thread in _threads(pid):
        with suppress(OSError):
            if content := (thread / name).read_bytes():
                return content
    return b""


_FLAGS = re.compile(r"^flags:\s*([0-7]+)$", re.MULTILINE)


def writes(pid: int, path: Path) -> bool:
    """Has it a file or device open for writing?"""
    return any(_thread_writes(thread, str(path)) for thread in _threads(pid))


def _thread_writes(thread: Path, name: str) -> bool:
    with suppress(OSError):
        for descriptor in (thread / "fd").iterdir():
            with suppress(OSError):
                if os.readlink(descriptor) != name:
                    continue
                flags = _FLAGS.search((thread / "fdinfo" / descriptor.name).read_text())
                if flags and int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
    return False
