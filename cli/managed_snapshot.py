"""`leasehold managed snapshot`: the snapshots of managed volumes."""

from typing import Annotated
from uuid import UUID

import typer

from cli.command import command, group, stoppable
from cli.managed_parameters import (
    DOMAIN,
    NEW,
    SNAPSHOT,
    VOLUME,
    DomainName,
    NewId,
    Snapshot,
    Volume,
)
from cli.output import Output

app = group(
    "snapshot",
    "Keep the content of a managed volume as it is now, and go back to it.",
    example=f"managed snapshot create {DOMAIN} {VOLUME}",
)


@command(app, "create", example=f"managed snapshot create {DOMAIN} {VOLUME}")
@stoppable
async def create(
    out: Output,
    domain: DomainName,
    volume: Volume,
    *,
    id: Annotated[
        UUID | None,
        typer.Option(
            "--id",
            help="The id of the new snapshot; with it the command can be repeated. Not with a"
            " vendor's adapter. Default: a new one.",
        ),
    ] = None,
) -> None:
    """Make a snapshot of a volume."""
    from cli.managed_snapshotting import made
    from cli.managed_storage import opened

    found = opened(domain)
    snapshot = await made(found, str(volume), None if id is None else str(id), out)
    facts = {"id": snapshot, "domain": found.name, "volume": str(volume)}
    out.result(facts, f"created snapshot {snapshot} of volume {volume}")


@command(app, "list", example=f"managed snapshot list {DOMAIN} {VOLUME}")
@stoppable
async def list_(out: Output, domain: DomainName, volume: Volume) -> None:
    """List the snapshots of a volume; a vendor's adapter cannot tell them (exit code 6)."""
    from cli.managed_storage import opened

    snapshots = (await opened(domain).storage.volume_info(str(volume))).snapshots
    out.result({"snapshots": snapshots}, "\n".join(snapshots) or "no snapshots")


@command(app, "delete", example=f"managed snapshot delete {DOMAIN} {VOLUME} {SNAPSHOT}")
@stoppable
async def delete(out: Output, domain: DomainName, volume: Volume, snapshot: Snapshot) -> None:
    """Delete a snapshot."""
    from cli.managed_parameters import checked_snapshot
    from cli.managed_storage import opened

    found, name = opened(domain), checked_snapshot(snapshot)
    await found.storage.remove_snapshot(str(volume), name)
    facts = {"id": name, "domain": found.name, "volume": str(volume)}
    out.done(facts, f"deleted snapshot {name} of volume {volume}")


@command(app, "revert", example=f"managed snapshot revert {DOMAIN} {VOLUME} {SNAPSHOT}")
@stoppable
async def revert(out: Output, domain: DomainName, volume: Volume, snapshot: Snapshot) -> None:
    """Give a volume, which must not be connected, the content of a snapshot again."""
    from cli.managed_parameters import checked_snapshot
    from cli.managed_storage import opened

    found, name = opened(domain), checked_snapshot(snapshot)
    await found.storage.revert_to_snapshot(str(volume), name)
    facts = {"id": name, "domain": found.name, "volume": str(volume)}
    out.done(facts, f"volume {volume} is as it was in snapshot {name}")


@command(
    app, "to-volume", example=f"managed snapshot to-volume {DOMAIN} {VOLUME} {SNAPSHOT} --id {NEW}"
)
@stoppable
async def to_volume(
    out: Output, domain: DomainName, volume: Volume, snapshot: Snapshot, *, id: NewId = None
) -> None:
    """Make a volume with the content of a snapshot. A vendor's adapter makes up its id."""
    from cli.managed_parameters import checked_snapshot
    from cli.managed_snapshotting import volume_made
    from cli.managed_storage import opened

    found, name = opened(domain), checked_snapshot(snapshot)
    new = await volume_made(found, str(volume), name, None if id is None else str(id), out)
    facts = {"id": new, "domain": found.name, "source": str(volume), "snapshot": name}
    out.result(facts, f"created volume {new} from snapshot {name} of volume {volume}")
