"""Who can still write under a lease of this host's present or former membership in a lockspace.

When the daemon dies, its leases are no longer renewed, but it knows nothing of them either when it
is started again: were the lockspace joined at once, others would take leases whose writers still
live here. So every holder shares a lock of the kernel with all that inherited from it, and joining
needs that lock alone. The kernel drops it when the last of them is gone, with all its threads and
what they had begun to write. Who removes or replaces the file does not end the locks on it: the
kernel still lists them. Source: docs/failures.md, fcntl(2) "Open file description locks", proc(5).
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leases import daemon, range_lock
from processes import host_file

NAME = "leasehold.writers"
_LOCKS = Path("/proc/locks")  # of all processes, whatever they see of the files
_LOOKS = 3  # at those: the kernel tells them in parts, and one may slip through in between


def covered(sd_id: str) -> int | None:
    """A descriptor to be inherited by every process that can write; None: it is being joined."""
    while True:
        fd = host_file.opened(NAME)
        try:
            got = range_lock.lock(fd, _place(sd_id), 1, shared=True)
            if got and host_file.in_place(fd, NAME):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if not got:
            return None


@contextmanager
def none_left(sd_id: str) -> Iterator[bool]:
    """Is there no such process? While the body of a True runs, none can begin to be one."""
    fd, alone = _exclusive(sd_id)
    try:
        yield alone and not _covered_elsewhere(sd_id)
    finally:
        os.close(fd)


def _exclusive(sd_id: str) -> tuple[int, bool]:
    while True:
        fd = host_file.opened(NAME)
        try:
            alone = range_lock.lock(fd, _place(sd_id), 1)
            if host_file.in_place(fd, NAME):
                return fd, alone
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _covered_elsewhere(sd_id: str) -> bool:
    """Is there such a process whose file is not the one that others open now?

    The caller has the lock of that file alone, so a shared one is on another.
    """
    shared = re.compile(rf"^\d+: OFDLCK\s+\w+\s+READ .* {_place(sd_id)} \d+$", re.MULTILINE)
    return any(shared.search(_LOCKS.read_text()) for _ in range(_LOOKS))


def process_ids(sd_id: str) -> list[int]:
    """Those processes: for a message to people, as far as this user may see them.

    Looks at every thread: one that a signal cannot end yet may be the last of a dead process.
    """
    found = set()
    name, lock = str(Path(host_file.FOLDER, NAME)), f" {_place(sd_id)} "
    for link in Path("/proc").glob("[0-9]*/task/*/fd/*"):
        try:
            if os.readlink(link).removesuffix(" (deleted)") == name:
                about = (link.parents[1] / "fdinfo" / link.name).read_text()  # proc(5): its locks
                if lock in about:
                    found.add(int(link.parts[2]))
        except OSError:
            continue
    return sorted(found - {os.getpid()})


def _place(sd_id: str) -> int:
    """The byte of a lockspace of the daemon that this process talks to; as endpoints/locks.py."""
    name = f"{os.path.realpath(daemon.run_dir())}\0{sd_id}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2
