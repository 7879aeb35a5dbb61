"""Parameters that several commands take."""

from typing import Annotated, Literal
from uuid import UUID

import typer

from protocol.errors import BadParameter

StoreKind = Literal["auto", "embedded", "sanlock"]

Sd = Annotated[UUID, typer.Argument(metavar="SD", help="The id of a known storage domain.")]
LeaseId = Annotated[str, typer.Argument(metavar="LEASE", help="The id of a lease.")]
Store = Annotated[
    StoreKind,
    typer.Option(help="Who keeps the leases; `sanlock` is not available in this version."),
]


def checked_store(store: StoreKind) -> Literal["auto", "embedded"]:
    """Refuse what is not there yet, before anything is touched. Raises BadParameter (1000)."""
    if store == "sanlock":
        reason = "the sanlock store is not available in this version; use --store embedded"
        raise BadParameter("--store", reason)
    return store


def checked_lease(lease_id: str) -> str:
    """Raises BadParameter (1000) for what cannot be the id of a lease."""
    import msgspec

    from protocol.messages import LeaseName

    try:
        return msgspec.convert(lease_id, LeaseName)
    except msgspec.ValidationError:
        reason = f"{lease_id!r} is not 1 to 48 characters of ASCII without blanks"
        raise BadParameter("LEASE", reason) from None
