"""vdsm's hook after a VM has stopped: its local disks are removed, unless they are to be kept."""

import os

from host.hooks.program import PROPERTY, VM_ID, run, uuid

XML = "_hook_domxml"


def main() -> None:
    """The entry point of `leasehold-hook-after-vm-destroy`."""
    run(_removed)


def _removed() -> None:
    """Whatever backend the VM names: a disk of it that is there is removed."""
    if not os.environ.get(PROPERTY):
        return
    vm_id = uuid(os.environ.get(VM_ID) or _from_xml(), VM_ID)
    from host.hooks.order import Remove  # noqa: PLC0415 - lazy: host/hooks
    from host.hooks.work import done  # noqa: PLC0415

    done(Remove(vm_id=vm_id))


def _from_xml() -> str:
    from host import domain_xml  # noqa: PLC0415 - lazy: host/hooks
    from host.hooks import hook_file  # noqa: PLC0415

    return domain_xml.vm_id(hook_file.read(XML, domain_xml.LIMIT))
