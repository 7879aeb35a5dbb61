"""`leasehold localdisk prepare`: a disk is copied to storage of a host."""

from typing import Annotated
from uuid import UUID

import typer

from cli.command import command
from cli.localdisk_parameters import VM, Backend, HostUrl, Vm
from cli.output import Output
from cli.parameters import Limit, Source, SourceFormat, Verify
from cli.remote import TIMEOUT, Ca, Certificate, Key, Timeout


def register(app: typer.Typer) -> None:
    """Add the command to `leasehold localdisk`."""
    command(app, "prepare", example=f"localdisk prepare disk.qcow2 --vm {VM} --backend lvmthin")(
        prepare
    )


def prepare(
    out: Output,
    source: Source,
    *,
    vm: Vm = None,
    backend: Backend = "lvm",
    id: Annotated[
        UUID | None,
        typer.Option(
            metavar="VOLUME",
            help="The id of the local disk; default: that of the volume, or one that is made of"
            " the name of the source and the VM, and is the same again.",
        ),
    ] = None,
    image: Annotated[
        UUID | None, typer.Option(metavar="IMG", help="The image that it is a copy of.")
    ] = None,
    source_format: SourceFormat = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="A folder whose files the source may name as backing or data files; can be"
            " repeated.",
        ),
    ] = None,
    domain: Annotated[
        UUID | None,
        typer.Option(
            metavar="SD",
            help="The storage domain that holds the lease of the copy; default: as configured, or"
            " one of that host.",
        ),
    ] = None,
    limit: Limit = None,
    verify: Verify = False,
    start: Annotated[
        bool,
        typer.Option(
            "--start", help="The VM is started now: from now on what it has written is kept."
        ),
    ] = False,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Copy anew what has changed, even over what the VM has written."
        ),
    ] = False,
    host: HostUrl = None,
    ca: Ca = "",
    certificate: Certificate = "",
    key: Key = "",
    timeout: Timeout = TIMEOUT,
) -> int:
    """Copy a disk to a logical volume of a host, as a tracked job; prints the path of its device.

    One that is ready is used as it is. One that is being filled is waited for, whoever fills it.
    Ctrl-C aborts the copy, unless somebody else began it.
    """
    from cli.interrupt import run
    from cli.localdisk_request import order_of

    order = order_of(
        source,
        backend=backend,
        vm=vm,
        id=id,
        image=image,
        source_format=source_format,
        allow=allow or (),
        domain=domain,
        limit=limit,
        verify=verify,
        start=start,
        again=again,
    )
    if host is None:
        from cli.localdisk_preparing import prepared

        return run(lambda interrupt: prepared(order, out, interrupt))
    from cli.localdisk_host_preparing import prepared as prepared_there
    from cli.remote import remote

    agent = remote(host, ca, certificate, key, timeout)
    return run(lambda interrupt: prepared_there(order, agent, out, interrupt))
