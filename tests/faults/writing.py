"""Who can still write to the target of a copy, of all processes of one command.

Every process of a command has the TMPDIR of its test in its environment, however it was orphaned.
A process whose threads have all come to their end has neither memory nor descriptors, and counts
no more: whatever it had begun to write has ended by then.
"""

import os
import select
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.faults.command import Command, Process, arguments, seen, writes

# What a copy writes with; already an argument of the process that becomes it.
_TOOLS = {"convert", "nbdcopy"}


def able(temporary: str, target: str) -> set[Process]:
    """The processes that can write to `target` (a path or url). temporary: the TMPDIR."""
    family = Command(Path(temporary).parent).family()
    return {process for process in family if _able(process, target)}


class Known:
    """Processes that are known by descriptors, so that whether they are gone is told at once."""

    def __init__(self, processes: Iterable[Process]) -> None:
        self._handles: dict[int, Process] = {}
        for process in processes:
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(process.pid)
                if seen(process.pid) == process:
                    self._handles[handle] = process
                else:  # the number is another's by now
                    os.close(handle)

    def able(self, target: str) -> set[Process]:
        """Those that are not gone, and can write to `target`."""
        gone = set(select.select(list(self._handles), [], [], 0)[0])
        left = {process for handle, process in self._handles.items() if handle not in gone}
        return {process for process in left if _able(process, target)}

    def close(self) -> None:
        for handle in self._handles:
            os.close(handle)


def _able(process: Process, target: str) -> bool:
    argv = arguments(process.pid)
    named = {Path(one).name for one in argv}
    tool = bool(named & _TOOLS) and any(target in one for one in argv)
    return tool or writes(process.pid, Path(target))
