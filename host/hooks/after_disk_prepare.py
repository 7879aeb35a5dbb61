"""vdsm's hook after it has prepared a disk: of a VM with local disks, the disk becomes local."""

import os

from host.hooks import drive, hook_file
from host.hooks.program import VM_ID, backend, run, say, uuid

VARIABLE = "_hook_json"


def main() -> None:
    """The entry point of `leasehold-hook-after-disk-prepare`."""
    run(_prepared)


def _prepared() -> None:
    chosen = backend()
    if chosen is None:
        return
    disk = drive.read(hook_file.read(VARIABLE, drive.LIMIT))
    if disk is None:
        say("it is no disk with an image in a storage domain, and stays where it is")
        return
    vm_id = uuid(os.environ.get(VM_ID), VM_ID)
    from host.hooks.order import Prepare  # noqa: PLC0415 - lazy: host/hooks
    from host.hooks.work import done  # noqa: PLC0415
    from leases.steps import reached  # noqa: PLC0415

    answer = done(
        Prepare(
            backend=chosen,
            sd_id=disk.sd_id,
            img_id=disk.img_id,
            vol_id=disk.vol_id,
            vm_id=vm_id,
            path=disk.path,
            format=disk.format,
            managed=disk.managed,
        )
    )
    reached("hook", "done")
    hook_file.replace(VARIABLE, disk.at(answer.path))
    reached("hook", "replaced")
