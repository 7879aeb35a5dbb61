"""`leasehold localdisk`: copies of disks on storage of a host, for the VMs that it runs."""

from typing import Annotated
from uuid import UUID

import typer

from cli import localdisk_prepare, localdisk_xml
from cli.command import command, group, stoppable
from cli.localdisk_parameters import VM, VOLUME, HostUrl, host_of
from cli.output import Output
from cli.remote import TIMEOUT, Ca, Certificate, Key, Timeout

app = group(
    "localdisk",
    "Copy disks to storage of a host for the VMs that it runs, and look at and remove the copies.",
    example=f"localdisk prepare disk.qcow2 --vm {VM}",
)
localdisk_prepare.register(app)
localdisk_xml.register(app)


@command(app, "list", example="localdisk list --json")
@stoppable
async def list_(
    out: Output,
    *,
    host: HostUrl = None,
    ca: Ca = "",
    certificate: Certificate = "",
    key: Key = "",
    timeout: Timeout = TIMEOUT,
) -> None:
    """List the local disks of a host: ready to be used, or being filled."""
    import msgspec

    from cli.localdisk_text import table

    rows = await host_of(host, ca, certificate, key, timeout).rows()
    facts = {"disks": msgspec.to_builtins(rows), "host": host}
    out.result(facts, table(rows) if rows else "no local disks")


@command(app, "remove", example=f"localdisk remove {VOLUME}")
@stoppable
async def remove(
    out: Output,
    volume: Annotated[
        UUID | None, typer.Argument(metavar="[VOLUME]", help="The id of one local disk.")
    ] = None,
    *,
    vm: Annotated[
        UUID | None, typer.Option(metavar="VM", help="Instead: all local disks of this VM.")
    ] = None,
    abort: Annotated[
        bool, typer.Option("--abort", help="Abort the copy that fills one; else it is kept.")
    ] = False,
    host: HostUrl = None,
    ca: Ca = "",
    certificate: Certificate = "",
    key: Key = "",
    timeout: Timeout = TIMEOUT,
) -> None:
    """Remove a local disk, with what its VM has written to it. The source stays as it is.

    One that is open, or that a copy fills, is kept (exit code 6); one that is not there is no
    error.
    """
    from protocol.errors import BadParameter

    if (volume is None) == (vm is None):
        raise BadParameter("VOLUME", "name one local disk, or with --vm those of a VM")
    place = host_of(host, ca, certificate, key, timeout)
    vol_id, vm_id = (None if one is None else str(one) for one in (volume, vm))
    removed = await place.remove(vol_id=vol_id, vm_id=vm_id, abort=abort)
    of = f"VM {vm} has no local disks" if volume is None else f"there is no local disk {volume}"
    text = "\n".join(f"removed local disk {one}" for one in removed) or of
    out.done({"removed": removed, "host": host}, text)


@command(app, "gc", example="localdisk gc --dry-run")
@stoppable
async def gc(
    out: Output,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what nothing needs, and remove nothing.")
    ] = False,
    vms: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The ids of all VMs that there are, one a line; - is standard input. Disks of"
            " other VMs are not needed then. Default: what the command localdisk.vms of the"
            " configuration prints; without one every VM is taken to exist.",
        ),
    ] = None,
    host: HostUrl = None,
    ca: Ca = "",
    certificate: Certificate = "",
    key: Key = "",
    timeout: Timeout = TIMEOUT,
) -> int:
    """Remove local disks that nothing needs: of copies that no longer live, of VMs that are gone.

    One that is open, being filled, or was prepared in the last minutes is kept. Exit code 1: one
    could not be removed.
    """
    from cli import exits
    from cli.localdisk_text import unused_line
    from cli.localdisk_vms import read

    known = None if vms is None else read(vms)
    place = host_of(host, ca, certificate, key, timeout)
    found = await place.gc(dry_run=dry_run, vms=known)
    lines = [unused_line(one, dry_run=dry_run) for one in found]
    facts = {"dry_run": dry_run, "unused": [one.to_rpc() for one in found], "host": host}
    out.result(facts, "\n".join(lines) or "nothing to remove")
    return exits.FAILED if any(one.failed for one in found) else exits.OK
