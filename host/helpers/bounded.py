"""A program that is run for as long as somebody reads what it prints, and for a bounded time.

For who may end it, as who has started it may not: an agent that is not root can end nothing of
root's, but it can close its end of the pipe. A timer of the program itself is of no use: LVM blocks
most signals while it waits for a lock.
Source: poll(2), POLLERR; lvm(8), version 2.03.16.
"""

import os
import select
import signal
from collections.abc import Mapping, Sequence

STDOUT = 1
GRACE = 2.0  # seconds between SIGTERM and SIGKILL, and for that to work


def run(
    path: str, argv: Sequence[str], environment: Mapping[str, str], seconds: float
) -> int | None:
    """Its exit status, or 128 and the signal that ended it.

    None: it was ended, after so many seconds or when its reader was gone. What the kernel does not
    let go, for a device that does not answer say, is left behind then.
    """
    # As Python starts it ignores these; LVM shall not.
    pid = os.posix_spawn(
        path, list(argv), environment, setsigmask=(), setsigdef=(signal.SIGPIPE, signal.SIGXFSZ)
    )
    child = os.pidfd_open(pid)
    if _ended(child, seconds, reader=True):
        return _status(pid)
    for number in (signal.SIGTERM, signal.SIGKILL):
        signal.pidfd_send_signal(child, number)
        if _ended(child, GRACE):
            os.waitpid(pid, 0)
            break
    return None


def _ended(child: int, seconds: float, *, reader: bool = False) -> bool:
    """Wait until it has ended; False: it has not, in this time. reader: or as long as there is
    one."""
    poll = select.poll()
    poll.register(child, select.POLLIN)
    if reader:
        poll.register(STDOUT, 0)  # of the errors alone, which come always
    return any(fd == child for fd, _ in poll.poll(seconds * 1000))


def _status(pid: int) -> int:
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else 128 - status
