"""The folder of one job: what is to be kept of it when agent and worker are gone.

    spec      what the job is to do; written first, never changed
    lock      locked by the worker as long as it lives: the kernel says whether it does
    socket    where the worker is spoken to; made just before the worker is
    abort     somebody asked for an abort
    ending    how it ended; written last, by the one who has the lock

A folder with a socket, without a worker and without an ending is that of a job whose worker died.
One without a socket was never begun.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import msgspec

from jobs.status import Status
from leases import range_lock
from processes import atomic_file

Size = Annotated[int, msgspec.Meta(gt=0)]
ROOM = 1 << 16  # bytes kept free for the ending: a full disk must not hide a result
_ROOM = "ending.room"


class LocalGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Where the local disks of this host are: as host.config.LocalDisk says."""

    volume_group: str
    thin_pool: str
    devices: tuple[str, ...] = ()
    helper: tuple[str, ...] = ()
    dev: str = "/dev"


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told. source, destination: the messages of the endpoints as they came.

    domains: folders of the storage domains that they name, by id. limit: bytes per second.
    allow: directories that images may name. create_under: real folders in which a missing target
    may be created. real: names of files that had no link in them when they were allowed, and must
    have none when they are used. join_time: seconds to wait for this host to be in the lockspace
    of the lease. local: where a local disk is that it copies to. thin_bytes: of the thin pool, that
    the copy may take. created: seconds since the epoch,
    to be shown. order: among the jobs of the journal, which gives it.
    """

    job_id: UUID
    verb: Literal["copy_data"] = "copy_data"
    description: str
    source: dict[str, Any]
    destination: dict[str, Any]
    domains: dict[str, str] = {}
    store: Literal["auto", "embedded", "sanlock"] = "auto"
    hardware_id: str
    allow: tuple[str, ...] = ()
    create_under: tuple[str, ...] = ()
    real: tuple[str, ...] = ()
    limit: Size | None = None
    stall_time: float = 300.0
    join_time: float = 0.0
    local: LocalGroup | None = None
    thin_bytes: int | None = None
    verify: bool = False
    copy_bitmaps: bool = False
    priority: int = 0
    created: float
    flow_id: str = ""
    order: int = 0


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended: done, failed or aborted.

    error: as protocol.errors.to_rpc gives it. started, ended: seconds since the epoch.
    percent, bytes, total_bytes: how far it came.
    """

    status: Status
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    started: float | None = None
    ended: float
    percent: float | None = None
    bytes: int | None = None
    total_bytes: int | None = None


class Folder:
    """The folder of one job. Its calls block for a moment and raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def job_id(self) -> str:
        return self.path.name

    @property
    def socket(self) -> Path:
        return self.path / "socket"

    def write(self, spec: Spec) -> None:
        """Write what is never changed, and keep the room for what must always be written."""
        atomic_file.write(self.path / "spec", msgspec.json.encode(spec))
        (self.path / "lock").touch(mode=0o600)  # now: there may be no room for a name later
        fd = os.open(self.path / _ROOM, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, ROOM)
            os.fsync(fd)
        finally:
            os.close(fd)

    def spec(self) -> Spec:
        """Raises msgspec.DecodeError too: it is damaged, or of another job."""
        spec = msgspec.json.decode((self.path / "spec").read_bytes(), type=Spec)
        if str(spec.job_id) != self.job_id:
            raise msgspec.DecodeError(f"it is that of job {spec.job_id}")
        return spec

    def ending(self) -> Ending | None:
        """None: it has not ended, or its worker died. Raises msgspec.DecodeError too: damaged."""
        try:
            content = (self.path / "ending").read_bytes()
        except FileNotFoundError:
            return None
        ending = msgspec.json.decode(content, type=Ending)
        if not ending.status.ended:
            raise msgspec.DecodeError(f"{ending.status} is no end")
        return ending

    @property
    def ended(self) -> bool:
        return (self.path / "ending").exists()

    def end(self, ending: Ending) -> None:
        """Write the ending, into the room that was kept for it. For the one who has the lock."""
        content = msgspec.json.encode(ending)
        kept = self.path / _ROOM
        try:
            fd = os.open(kept, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            atomic_file.write(self.path / "ending", content)
            return
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.ftruncate(file.fileno(), len(content))
            os.fsync(file.fileno())
        os.replace(kept, self.path / "ending")
        atomic_file.sync_folder(self.path)

    def end_unbegun(self, ending: Ending) -> Ending | None:
        """End a job that was never begun, which it is not any more then; None: it was.

        Returns the ending that stands: an earlier one is not replaced, unless it is damaged.
        """
        with self._alone() as alone:
            return self._end(ending) if alone and not self.begun else None

    def end_without_worker(self, ending: Ending) -> Ending | None:
        """End a job whose worker died; None: it lives. Returns as `end_unbegun`."""
        with self._alone() as alone:
            return self._end(ending) if alone else None

    def _end(self, ending: Ending) -> Ending:
        with suppress(msgspec.MsgspecError):
            if (written := self.ending()) is not None:
                return written
        self.end(ending)
        return ending

    def lock(self) -> int | None:
        """Become the worker of this job: a descriptor to be kept; None: it has one."""
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if range_lock.lock(fd, 0, 1):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    @property
    def begun(self) -> bool:
        """Was a worker ever to be started? Then the lock was taken before."""
        return os.path.lexists(self.socket)

    @property
    def started(self) -> float | None:
        """When, in seconds since the epoch."""
        try:
            return os.lstat(self.socket).st_mtime
        except FileNotFoundError:
            return None

    @property
    def alive(self) -> bool:
        """Does its worker live? Takes nothing, so that it disturbs nobody."""
        try:
            fd = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return range_lock.locked(fd, 0, 1)
        finally:
            os.close(fd)

    def ask_abort(self) -> None:
        """Let the wish for an abort outlive the agent."""
        fd = os.open(self.path / "abort", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.close(fd)
        atomic_file.sync_folder(self.path)

    @property
    def abort_asked(self) -> bool:
        return (self.path / "abort").exists()

    def remove(self) -> None:
        """Forget the job. The name goes first, so that no half of a folder is ever read."""
        gone = self.path.with_name(f".gone-{self.path.name}-{uuid4().hex}")
        self.path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        atomic_file.sync_folder(self.path.parent)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        fd = self.lock()
        try:
            yield fd is not None
        finally:
            if fd is not None:
                os.close(fd)
