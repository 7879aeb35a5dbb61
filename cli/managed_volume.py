"""`leasehold managed volume`: the volumes of managed block storage."""

from cli.command import command, group, stoppable
from cli.managed_parameters import DOMAIN, NEW, VOLUME, DomainName, NewId, Size, Volume
from cli.output import Output

app = group(
    "volume",
    "Make, look at, grow and delete the volumes of managed block storage.",
    example=f"managed volume create {DOMAIN} --size 10G",
)


@command(app, "create", example=f"managed volume create {DOMAIN} --size 10G")
@stoppable
async def create(out: Output, domain: DomainName, *, size: Size, id: NewId = None) -> None:
    """Make an empty volume."""
    import uuid

    from cli.managed_making import deleted_on_failure, gib_of
    from cli.managed_storage import opened
    from protocol.managed import GIB

    gib = gib_of(size, out)
    found = opened(domain)
    volume = str(id or uuid.uuid4())
    async with deleted_on_failure(found, volume, out, new=id is None):
        created = await found.storage.create_volume(volume, gib)
    there = found.storage.is_ours and not created
    facts = {"id": volume, "domain": found.name, "size": gib * GIB, "is_zero": created}
    text = f"volume {volume} is there already" if there else f"created volume {volume}"
    out.result(facts, f"{text}, {gib} GiB")


@command(app, "list", example=f"managed volume list {DOMAIN} --json")
@stoppable
async def list_(out: Output, domain: DomainName) -> None:
    """List the volumes of a domain; a vendor's adapter cannot tell them (exit code 6)."""
    from cli.managed_storage import opened

    found = opened(domain)
    volumes = await found.storage.list_volumes()
    out.result({"volumes": volumes}, "\n".join(volumes) or "no volumes")


@command(app, "info", example=f"managed volume info {DOMAIN} {VOLUME}")
@stoppable
async def info(out: Output, domain: DomainName, volume: Volume) -> None:
    """Show a volume: its size, its snapshots, and the hosts that it is connected for."""
    from cli.managed_storage import opened
    from cli.sizes import format_size

    found = opened(domain)
    told = await found.storage.volume_info(str(volume))
    facts = {
        "id": str(volume),
        "domain": found.name,
        "size": told.size,
        "snapshots": told.snapshots,
        "hosts": told.hosts,
    }
    rows = {**facts, "size": f"{told.size} ({format_size(told.size)})"}
    rows["snapshots"] = ", ".join(told.snapshots) or "none"
    rows["hosts"] = ", ".join(told.hosts) or "none"
    out.result(facts, "\n".join(f"{key + ':':10} {value}" for key, value in rows.items()))


@command(app, "extend", example=f"managed volume extend {DOMAIN} {VOLUME} --size 20G")
@stoppable
async def extend(out: Output, domain: DomainName, volume: Volume, *, size: Size) -> None:
    """Grow a volume to a size; it never shrinks."""
    from cli.managed_making import gib_of
    from cli.managed_storage import opened
    from protocol.managed import GIB

    gib = gib_of(size, out)
    found = opened(domain)
    await found.storage.extend_volume(str(volume), gib)
    facts = {"id": str(volume), "domain": found.name, "size": gib * GIB}
    out.done(facts, f"volume {volume} has {gib} GiB")


@command(app, "clone", example=f"managed volume clone {DOMAIN} {VOLUME} --id {NEW}")
@stoppable
async def clone(out: Output, domain: DomainName, volume: Volume, *, id: NewId = None) -> None:
    """Make a volume with the content of another; nothing ties them together."""
    import uuid

    from cli.managed_making import deleted_on_failure
    from cli.managed_storage import opened

    found = opened(domain)
    new = str(id or uuid.uuid4())
    async with deleted_on_failure(found, new, out, new=id is None):
        await found.storage.clone_volume(str(volume), new)
    facts = {"id": new, "domain": found.name, "source": str(volume)}
    out.result(facts, f"created volume {new} from volume {volume}")


@command(app, "delete", example=f"managed volume delete {DOMAIN} {VOLUME}")
@stoppable
async def delete(out: Output, domain: DomainName, volume: Volume) -> None:
    """Delete a volume with its content; not one that is connected or has snapshots."""
    from cli.managed_connections import must_be_none
    from cli.managed_storage import opened

    found = opened(domain)
    must_be_none(found.domain.id, volume)
    await found.storage.delete_volume(str(volume))
    out.done({"id": str(volume), "domain": found.name}, f"deleted volume {volume}")
