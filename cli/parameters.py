"""Parameters that several commands take."""

from typing import Annotated, Literal
from uuid import UUID

import typer

from protocol.errors import BadParameter

StoreKind = Literal["auto", "embedded", "sanlock"]


def known_domains(incomplete: str) -> list[str]:
    """For the shell: the ids of known domains that begin so; none when they cannot be read."""
    from cli.known import known

    try:
        return [sd_id for sd_id in sorted(known()) if sd_id.startswith(incomplete.lower())]
    except (BadParameter, OSError):
        return []


Sd = Annotated[
    UUID,
    typer.Argument(
        metavar="SD", help="The id of a known storage domain.", autocompletion=known_domains
    ),
]
LeaseId = Annotated[str, typer.Argument(metavar="LEASE", help="The id of a lease.")]
Store = Annotated[
    StoreKind,
    typer.Option(
        help="Who keeps the leases; `auto` is sanlock where its daemon has joined the domain."
    ),
]

Format = Annotated[Literal["raw", "qcow2"], typer.Option(help="What the target is or becomes.")]
Source = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="A path, an nbd+unix:, nbd:, iscsi: or rbd: url, or a volume: SD/IMG/VOL.",
    ),
]
Destination = Annotated[
    str,
    typer.Argument(
        metavar="DST",
        help="The same. A missing plain file is created; a device or network volume must exist.",
    ),
]
SourceFormat = Annotated[
    Literal["raw", "qcow2"] | None,
    typer.Option(help="What the source must be; default: what it is found to be, not on a host."),
]
NewJobId = Annotated[
    UUID | None,
    typer.Option(
        help="The id of the job; the same one takes up a copy whose process died. Default: a new"
        " one."
    ),
]
Limit = Annotated[str | None, typer.Option(metavar="RATE", help="Bytes per second, as 100M.")]
Verify = Annotated[
    bool,
    typer.Option("--verify", help="Compare the whole content of both ends afterwards."),
]


def checked_lease(lease_id: str) -> str:
    """Raises BadParameter (1000) for what cannot be the id of a lease."""
    import msgspec

    from protocol.messages import LeaseName

    try:
        return msgspec.convert(lease_id, LeaseName)
    except msgspec.ValidationError:
        reason = f"{lease_id!r} is not 1 to 48 characters of ASCII without blanks"
        raise BadParameter("LEASE", reason) from None
