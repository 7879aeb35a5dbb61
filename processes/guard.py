"""What stands before every tool: the signal at our death, limits, priorities, a small environment.

Without trio, whose import takes longer than all the rest of a small program.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.errors import ToolMissing

# What to tell the user to install, per tool (Debian's names).
PACKAGES = {"qemu-img": "qemu-utils", "qemu-nbd": "qemu-utils", "qemu-io": "qemu-utils"}
PACKAGES |= {"nbdcopy": "libnbd-bin", "nbdinfo": "libnbd-bin"}
PACKAGES |= {"tgtadm": "tgt", "ceph": "ceph-common", "rbd": "ceph-common"}
FOLDERS = "/usr/sbin:/sbin"  # with the tools of storage; not on the PATH of a user

# Essential in every Debian, wherever PATH may point.
_SETPRIV = "/usr/bin/setpriv"
_IONICE = "/usr/bin/ionice"
_NICE = "/usr/bin/nice"
_BASH = "/bin/bash"
PARENT_GONE = 125
IDLE = 3  # the I/O class that has no levels, ionice(1)
_KEPT = ("PATH", "HOME", "TMPDIR", "SANLOCK_RUN_DIR")  # of the environment


@dataclass(frozen=True)
class Limits:
    """What a tool may use; None is unlimited.

    cpu: seconds of processor time. memory: bytes of address space. seconds: time by the clock.
    """

    cpu: int | None = None
    memory: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Priority:
    """nice: 0..19. io_class: 0 leave, 2 best effort, 3 idle (ionice(1)). io_level: 0..7."""

    nice: int = 0
    io_class: int = 0
    io_level: int = 0


NO_LIMITS = Limits()
NORMAL = Priority()
# A copy must not take the disk from the virtual machines beside it.
BACKGROUND = Priority(nice=10, io_class=2, io_level=7)


def find(tool: str) -> str:
    """The absolute path of a tool on PATH, or of an administrator's.

    Raises ToolMissing, naming its package.
    """
    if path := shutil.which(tool) or shutil.which(tool, path=FOLDERS):
        return os.path.abspath(path)
    raise ToolMissing(tool, PACKAGES.get(tool, tool))


def guarded(
    argv: Sequence[str], limits: Limits = NO_LIMITS, priority: Priority = NORMAL
) -> list[str]:
    """The whole command line of a tool. Raises ToolMissing."""
    path = find(argv[0])
    return [*_guard(limits, priority), path, *argv[1:]]


def _guard(limits: Limits, priority: Priority) -> list[str]:
    """What starts the tool: the signal at our death, priorities, then the guard."""
    command = [_SETPRIV, "--pdeathsig", "KILL"]
    if priority.io_class:
        level = ["-n", str(priority.io_level)] if priority.io_class != IDLE else []
        command += [_IONICE, "-t", "-c", str(priority.io_class), *level]
    if priority.nice:
        command += [_NICE, "-n", str(priority.nice)]
    # -p: nothing in the environment is run.
    return [*command, _BASH, "-p", "-c", _script(limits), "guard", str(os.getpid())]


def _script(limits: Limits) -> str:
    """The guard: ends unless its parent, $1, lives still; else becomes the tool.

    setpriv has asked for the signal at the parent's death. One that died before that is noticed by
    this look, one that dies after it by the signal, which is kept across execve. The tool and its
    arguments are the rest, never looked at. Messages of a tool begin with its bare name, hence -a.
    Source: prctl(2), PR_SET_PDEATHSIG; bash(1), PPID, ulimit and exec.
    """
    look = f'[ $PPID = "$1" ] || exit {PARENT_GONE}; shift; unset PWD OLDPWD; '
    if limits.cpu:
        look += f"ulimit -t {limits.cpu:d} && "
    if limits.memory:
        look += f"ulimit -v {limits.memory >> 10:d} && "  # KiB
    return look + 'exec -a "${1##*/}" -- "$@"'


def environment() -> dict[str, str]:
    """A small, known environment: messages are read by us, so they must be in English."""
    kept = {k: os.environ[k] for k in _KEPT if k in os.environ}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C.UTF-8", "TMPDIR": tempfile.gettempdir()}
