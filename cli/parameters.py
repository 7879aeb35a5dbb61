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


def checked_lease(lease_id: str) -> str:
    """Raises BadParameter (1000) for what cannot be the id of a lease."""
    import msgspec

    from protocol.messages import LeaseName

    try:
        return msgspec.convert(lease_id, LeaseName)
    except msgspec.ValidationError:
        reason = f"{lease_id!r} is not 1 to 48 characters of ASCII without blanks"
        raise BadParameter("LEASE", reason) from None
