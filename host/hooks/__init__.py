"""Programs that vdsm runs as a VM starts, migrates and ends; docs/hooks.md.

vdsm runs those of every VM. So nothing that takes time is imported before it is known that the VM
has local disks.
"""
