"""leasehold-lvm-helper: does what LVM is needed for, as root, for an agent or a hook that is not.

    leasehold-lvm-helper OPERATION [WORD...]

The operations are those of processes/lvm_operation.py and no others, each on one volume group: that
of `[localdisk]` in /etc/leasehold/host.toml, which nobody but root may write. Nothing of it comes
from the caller: neither the group, its devices and its pool, nor a path, an option or a variable of
the environment. Only volumes that carry the tags of local disks are changed. A look is ended after
READ_TIME, and when nobody reads what it prints any more: its caller may end nothing of root's. A
change is never cut off.
Source: docs/localdisk.md; packaging/sudoers.
"""

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from host import config_file
from host.config import LocalDisk
from host.helpers import bounded
from processes import lvm_names
from processes.lvm_command import command
from processes.lvm_operation import READ_TIME, READS, STALLED, Operation, parsed
from protocol.errors import BadParameter, Error

LVM = ("/usr/sbin/lvm", "/sbin/lvm")
# Whoever may choose the folder of LVM's configuration may have root run any program.
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "LVM_SUPPRESS_FD_WARNINGS": "1",
}


def main() -> NoReturn:
    """The entry point. Ends as LVM does; 64: it was not asked for anything that it does; 75: LVM
    did not answer in its time; 77: it may not; 78: its configuration cannot be used."""
    _become(sys.argv[1:], config_file.PATH)


def _become(words: Sequence[str], configuration: Path) -> NoReturn:
    try:
        operation = parsed(words)
    except BadParameter as e:
        _end(os.EX_USAGE, e)
    try:
        argv = composed(operation, settings(configuration))
        lvm = next(path for path in LVM if os.access(path, os.X_OK))
    except BadParameter as e:
        _end(os.EX_NOPERM if e.name == "thin_pool" else os.EX_CONFIG, e)
    except StopIteration:
        _end(os.EX_CONFIG, "lvm is not installed: install the package lvm2")
    except (Error, OSError) as e:
        _end(os.EX_CONFIG, e)
    os.chdir("/")
    os.umask(0o022)
    if operation.verb not in READS:
        os.execve(lvm, argv, ENVIRONMENT)
    if (status := bounded.run(lvm, argv, ENVIRONMENT, READ_TIME)) is None:
        _end(STALLED, f"LVM gave no answer in {READ_TIME:g} s")
    sys.exit(status)


def composed(operation: Operation, allowed: LocalDisk) -> list[str]:
    """The command of LVM. Raises BadParameter: another pool than that of the configuration, or a
    configuration that may not be said to LVM."""
    lvm_names.group(allowed.volume_group)
    for device in allowed.devices:
        lvm_names.device(device)
    pool = operation.name if operation.verb in ("pool", "wake") else operation.pool
    if pool not in (None, allowed.thin_pool):
        raise BadParameter("thin_pool", f"{pool} is not that of this host, {allowed.thin_pool}")
    return command(operation, allowed.volume_group, allowed.devices)


def settings(path: Path) -> LocalDisk:
    """`[localdisk]` of the agent's configuration, or its defaults when there is no file.

    Raises BadParameter: it cannot be read, or others than root may have written it.
    """
    for place in (path.parent, path):
        try:
            found = os.lstat(place)
        except FileNotFoundError:
            return LocalDisk()
        kind = stat.S_ISREG if place == path else stat.S_ISDIR
        if found.st_uid != 0 or found.st_mode & 0o022 or not kind(found.st_mode):
            reason = f"{place} is not a {'file' if place == path else 'folder'} that only root"
            raise BadParameter("configuration", f"{reason} can write")
    return config_file.load(path, environment={}).localdisk


def _end(status: int, reason: object) -> NoReturn:
    print(f"leasehold-lvm-helper: {reason}", file=sys.stderr)
    sys.exit(status)
