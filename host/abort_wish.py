"""The wish to abort a job, written down in its folder: whoever has it done will see it."""

import time

import structlog

from host.folder import Ending, Folder
from jobs.status import Status

log = structlog.get_logger()


def aborted() -> Ending:
    """The ending of a job that was aborted before it was begun."""
    return Ending(status=Status.ABORTED, ended=time.time())


def write(folder: Folder) -> bool:
    """Write down that a job is to be aborted; True: it has not begun, so that is its end.

    Blocks for a moment. For any process: who begins the job takes the lock of the folder first, and
    does not begin one that has ended. Raises OSError, FileNotFoundError: there is no such folder.
    """
    if folder.end_unbegun(aborted()) is not None:
        return True
    try:
        folder.ask_abort()
    except OSError as e:  # the disk is full: the worker is asked all the same
        log.warning("abort not written", job=folder.job_id, error=str(e))
    return False
