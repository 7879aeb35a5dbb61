"""vdsm's hook before a VM is suspended to disk: then vdsm ends it, and its local disks with it."""

import os

from host.hooks.program import PROPERTY, Refused, run


def main() -> None:
    """The entry point of `leasehold-hook-before-vm-hibernate`."""
    run(_refused)


def _refused() -> None:
    """Whatever backend it names: its memory would meet other disks when it is resumed."""
    if not os.environ.get(PROPERTY):
        return
    from protocol import local_disk_policy as policy  # noqa: PLC0415 - lazy: host/hooks

    if not policy.judged(policy.Operation.SUSPEND, policy.Facts(kept=_kept())).allowed:
        raise Refused(policy.refusal(policy.Operation.SUSPEND))


def _kept() -> bool:
    """Whether local disks stay when their VM ends. A configuration that this user may not read
    says no: a refusal loses nothing."""
    from host import config_file  # noqa: PLC0415 - lazy: host/hooks

    if config_file.PATH.exists() and not os.access(config_file.PATH, os.R_OK):
        return False
    return not config_file.load().localdisk.delete_on_stop
