"""Whether this process may ask LVM about local disks, and what it takes for true where it may not.

LVM tells a user without rights nothing, not even that there is no such volume group. An error there
would be one on every host without root, and such a host without local disks must do all that is
forbidden only where there are some.
"""

import os

import trio

from host.config import LocalDisk


def may_ask(wanted: LocalDisk) -> bool:
    """By itself, or by the helper of the configuration."""
    return os.geteuid() == 0 or bool(wanted.helper)


async def none_here(wanted: LocalDisk) -> bool:
    """Are there no local disks, as far as one sees who may not ask? LVM makes a folder of devices
    for a volume group in which one is active.

    False: there may be some; ask LVM, which may answer with an error.
    """
    if may_ask(wanted):
        return False
    return not await trio.Path(wanted.dev, wanted.volume_group).exists()
