"""Parameters of the commands `leasehold localdisk ...`."""

from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

from cli.remote import FORMS

if TYPE_CHECKING:
    from cli.localdisk_hosts import Host

VOLUME = "77777777-8888-4999-8aaa-bbbbbbbbbbbb"  # in examples
VM = "dddddddd-eeee-4fff-8000-111111111111"

HostUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help=f"The host, by its agent: {FORMS}. Default: this one, without an agent."
    ),
]
Backend = Annotated[
    Literal["lvm", "lvmthin"],
    typer.Option(help="A logical volume of its own, or a thin one in the thin pool."),
]
Vm = Annotated[UUID | None, typer.Option(metavar="VM", help="The id of the VM whose disk it is.")]


def host_of(host: str | None, ca: str, certificate: str, key: str, timeout: float) -> "Host":
    """Raises BadParameter (1000)."""
    from cli.localdisk_hosts import Here, There
    from cli.remote import remote

    return Here() if host is None else There(remote(host, ca, certificate, key, timeout))
