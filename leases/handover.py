"""A domain goes from the embedded store over to sanlock. Everything here blocks.

The embedded store looks at `ids` after it has locked a lease, so none is held when `ids` was
formatted under a lock of all of them, and none will be. Source: docs/formats.md, "Embedded store".
"""

import glob
import grp
import os
from collections.abc import Iterable
from contextlib import suppress

from leases import ids, range_lock
from leases.ids import Lockspace
from leases.sector import Sectors
from protocol.errors import InvalidDomain

GROUP = "sanlock"  # Debian's daemon runs as a user of this group
HELD = "jobs of the embedded store hold leases in it: wait for them, or abort them"


def hand_over(space: Lockspace, io_timeout: int) -> str | None:
    """Format `ids` unless it is; returns why that cannot be done now, or None.

    Raises InvalidDelta, InvalidDomain, OSError.
    """
    with Sectors.open(space.xleases, write=True) as volume:
        if not range_lock.lock(volume.fd, 0, 0) or held(space, but=space.xleases):
            return HELD
        if not os.path.samestat(os.fstat(volume.fd), os.stat(space.xleases)):
            return f"{space.xleases} is being replaced"
        if ids.lockspace(space.ids, space.geometry) is None:
            ids.format_ids(space.ids, space.sd_id, io_timeout, space.geometry)
            give_to_daemon(_files(space))
        return None


def held(space: Lockspace, *, but: str = "") -> bool:
    """Does a process of this host hold a lease of the embedded store? but: not looked at."""
    for path in _leases(space):
        if path == but:
            continue
        with suppress(InvalidDomain), Sectors.open(path, write=False) as sectors:  # gone: not held
            if range_lock.locked(sectors.fd, 0, 0):
                return True
    return False


def give_to_daemon(paths: Iterable[str]) -> None:
    """Let the daemon's group have the files, if we may and there is one."""
    if os.geteuid() != 0:
        return
    with suppress(KeyError):
        gid = grp.getgrnam(GROUP).gr_gid
        for path in paths:
            os.chown(path, -1, gid)


def _leases(space: Lockspace) -> list[str]:
    return [space.xleases, *(glob.glob(space.others) if space.others else ())]


def _files(space: Lockspace) -> list[str]:
    return [space.ids, *_leases(space), *space.shared]
