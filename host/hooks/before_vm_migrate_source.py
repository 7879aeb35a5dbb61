"""vdsm's hook before a VM leaves this host: one with local disks stays."""

import os

from host.hooks.program import PROPERTY, Refused, run


def main() -> None:
    """The entry point of `leasehold-hook-before-vm-migrate-source`."""
    run(_refused)


def _refused() -> None:
    """Whatever backend it names: a VM that has the property has local disks, or did not start."""
    if not os.environ.get(PROPERTY):
        return
    from protocol import local_disk_policy as policy  # noqa: PLC0415 - lazy: host/hooks

    if not policy.judged(policy.Operation.MIGRATE, policy.Facts()).allowed:
        raise Refused(policy.refusal(policy.Operation.MIGRATE))
