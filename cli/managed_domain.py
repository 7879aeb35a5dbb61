"""`leasehold managed domain`: the domains of managed block storage that this user knows."""

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from cli.command import command, group, stoppable
from cli.managed_parameters import DOMAIN, DomainName
from cli.output import Output

if TYPE_CHECKING:
    from cli.managed_known import ManagedDomain
    from engine.managed_storage import Stats

app = group(
    "domain",
    "Say where managed block storage is, and how it is managed.",
    example="managed domain add disks --adapter file --option path=/srv/managed",
)


@command(
    app,
    "add",
    example=f"managed domain add {DOMAIN} --adapter tgt --option path=/srv/luns"
    " --option portal=10.0.0.1:3260",
)
@stoppable
async def add(
    out: Output,
    name: Annotated[str, typer.Argument(metavar="NAME", help="How you will call it.")],
    *,
    adapter: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="file, tgt, ceph, or that of a vendor: the program NAME-adapter. Default: the"
            " client of cinderlib.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="A driver option; a value that is JSON, such as true or 3, is that. Can be"
            " repeated.",
        ),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=env:VARIABLE|KEY=file:/PATH",
            help="Where a secret driver option is: never kept itself. A file must be for its"
            " owner alone. Can be repeated.",
        ),
    ] = None,
    id: Annotated[
        UUID | None, typer.Option("--id", help="The id of the domain; default: a new one.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Ask the storage for its capacity first.")
    ] = True,
) -> None:
    """Remember a domain of managed block storage."""
    import uuid

    from cli import managed_known, managed_options, managed_storage
    from cli.managed_known import ManagedDomain
    from protocol.errors import BadParameter

    options = managed_options.options(option or ())
    if adapter is not None:
        if "adapter" in options:
            raise BadParameter("--option", "adapter is given by --adapter")
        options = {"adapter": adapter, **options}
    secrets = managed_options.secrets(secret or ())
    if both := sorted(set(options) & set(secrets)):
        raise BadParameter("--secret", f"{both[0]} is given as an option, too")
    made = ManagedDomain(id or uuid.uuid4(), options, secrets)
    managed_known.checked(name, made.id)
    storage = managed_storage.storage(made)
    if check:
        await storage.storage_stats()
    await managed_known.add(name, made)
    out.result(described(name, made), f"added domain {name}, {made.id}")


@command(app, "list", example="managed domain list --json")
@stoppable
async def list_(out: Output) -> None:
    """List the known domains; the storage is not asked."""
    from cli.managed_known import known

    rows = [described(name, one) for name, one in known().items()]
    lines = [f"{row['id']}  {row['adapter'] or 'cinderlib'}  {row['name']}" for row in rows]
    out.result({"domains": rows}, "\n".join(lines) or "no domain is known")


@command(app, "info", example=f"managed domain info {DOMAIN}")
@stoppable
async def info(out: Output, domain: DomainName) -> None:
    """Show a domain: its options, its adapter, and what the storage says of its capacity."""
    from cli.managed_storage import opened

    found = opened(domain)
    program = found.storage.programs.program(found.storage.driver)
    stats = await found.storage.storage_stats()
    facts = {
        **described(found.name, found.domain),
        "program": str(program.path),
        "stats": {
            "total_capacity_gb": stats.total_capacity_gb,
            "free_capacity_gb": stats.free_capacity_gb,
        },
    }
    out.result(facts, _text(found.name, found.domain, str(program.path), stats))


@command(app, "remove", example=f"managed domain remove {DOMAIN}")
@stoppable
async def remove(out: Output, domain: DomainName) -> None:
    """Forget a domain. Its volumes stay as they are; `managed domain add --id` knows it again."""
    from cli import managed_known
    from cli.managed_connections import must_be_none

    name, found = managed_known.found(domain)
    must_be_none(found.id)
    await managed_known.remove(name)
    out.done({"name": name, "id": str(found.id)}, f"forgot domain {name}, {found.id}")


def described(name: str, domain: "ManagedDomain") -> dict[str, Any]:
    """What the command tells of a domain; of its secrets, where they are."""
    import msgspec

    return {
        "name": name,
        "id": str(domain.id),
        "adapter": domain.options.get("adapter"),
        "options": domain.options,
        "secrets": msgspec.to_builtins(domain.secrets),
    }


def _text(name: str, domain: "ManagedDomain", program: str, stats: "Stats") -> str:
    from cli.output import as_json

    rows: dict[str, Any] = {"name": name, "id": domain.id, "adapter": program}
    rows |= {"capacity": _gib(stats.total_capacity_gb), "free": _gib(stats.free_capacity_gb)}
    lines = [f"{key + ':':10} {value}" for key, value in rows.items()]
    lines += [
        f"option:    {key}={value if isinstance(value, str) else as_json(value)}"
        for key, value in domain.options.items()
    ]
    lines += [
        f"secret:    {key}={'env' if one.env else 'file'}:{one.env or one.file}"
        for key, one in domain.secrets.items()
    ]
    return "\n".join(lines)


def _gib(capacity: float | str | None) -> str:
    from cli.sizes import format_size
    from protocol.managed import GIB

    if isinstance(capacity, int | float):
        return format_size(capacity * GIB)
    return "not known" if capacity is None else capacity
