"""`leasehold engine domain`: the storage domains that an engine knows."""

from typing import Annotated, Any
from uuid import UUID

import typer

from cli.command import command, group, stoppable
from cli.engine_client import Engine, reaching
from cli.engine_parameters import DOMAIN, Domain, host_names
from cli.output import Output

ARRAY = "--option adapter=tgt --option path=/srv/array1 --option portal=192.0.2.9:3260"
app = group(
    "domain",
    "Tell an engine of storage domains: those of data, and managed block storage.",
    example=f"engine domain add {DOMAIN} {ARRAY}",
)
HEAD = ("NAME", "STATUS", "TYPE", "FREE", "ID")
MANAGED = "managed_block_storage"


@command(app, "add", example=f"engine domain add {DOMAIN} {ARRAY}")
@reaching
@stoppable
async def add(
    out: Output,
    engine: Engine,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called from now on.")],
    *,
    path: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Of data: the folder on the hosts that it is mounted in."),
    ] = None,
    id: Annotated[
        UUID | None, typer.Option("--id", help="With --path: of a domain that is there already.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="HOST",
            help="With --path: the host that makes a new domain there.",
            autocompletion=host_names,
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Of managed block storage: a driver option; can be repeated."
        ),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=PLACE",
            help="A driver option that is secret: env:VARIABLE or file:/PATH; it is read now.",
        ),
    ] = None,
    description: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")] = "",
) -> None:
    """Add a storage domain: of data (--path), or of managed block storage (--option).

    The driver of managed block storage is tried before it is added.
    """
    from cli.engine_client import OVIRT
    from cli.engine_objects import found
    from protocol.errors import BadParameter

    if (path is None) == (not option):
        raise BadParameter("domain", "say either --path or --option")
    async with engine.connected() as session:
        if path is None:
            body = _managed(option or [], secret or [])
        else:
            body = {"type": "data", "storage": {"type": "posixfs", "path": path}}
            if id is not None:
                body["id"] = str(id)
            if host is not None:
                body["host"] = {"id": (await found(session, "hosts", host))["id"]}
        told = {"name": name, "description": description, **body}
        made = await session.post(f"{OVIRT}/storagedomains", told)
    out.result(made, f"added storage domain {name}: {made.get('status')}, {made.get('id')}")


def _managed(given: list[str], secret: list[str]) -> dict[str, Any]:
    """Raises BadParameter (1000)."""
    from cli.managed_options import options, revealed, secrets

    def properties(pairs: dict[str, Any]) -> dict[str, Any]:
        return {"property": [{"name": k, "value": _text(v)} for k, v in pairs.items()]}

    storage: dict[str, Any] = {"type": MANAGED, "driver_options": properties(options(given))}
    if hidden := revealed(secrets(secret)):
        storage["driver_sensitive_options"] = properties(hidden)
    return {"type": MANAGED, "storage": storage}


def _text(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)


@command(app, "list", example="engine domain list --json")
@reaching
@stoppable
async def list_(out: Output, engine: Engine) -> None:
    """List the storage domains."""
    from cli.columns import table
    from cli.engine_objects import listed, size, text

    async with engine.connected() as session:
        rows = await listed(session, "storagedomains")
    cells = [
        (
            *(text(row, key) for key in ("name", "status", "type")),
            size(row, "available"),
            text(row, "id"),
        )
        for row in rows
    ]
    out.result({"domains": rows}, table(HEAD, cells) if rows else "no storage domains")


@command(app, "show", example=f"engine domain show {DOMAIN}")
@reaching
@stoppable
async def show(out: Output, engine: Engine, domain: Domain) -> None:
    """Show a storage domain, with its space if it tells."""
    from cli.columns import facts
    from cli.engine_client import OVIRT
    from cli.engine_objects import found, rows_of, size, text

    async with engine.connected() as session:
        row = await found(session, "storagedomains", domain)
        row = await session.get(f"{OVIRT}/storagedomains/{row['id']}")
    options = row.get("storage", {}).get("driver_options", {})
    shown = facts(
        [
            ("domain", text(row, "name")),
            ("id", text(row, "id")),
            ("description", text(row, "description")),
            ("type", text(row, "type")),
            ("status", text(row, "status")),
            ("path", text(row, "storage", "path")),
            ("free", size(row, "available")),
            ("used", size(row, "used")),
            *(
                (f"option {text(one, 'name')}", text(one, "value"))
                for one in rows_of(options, "property")
            ),
        ]
    )
    out.result(row, shown)


@command(app, "remove", example=f"engine domain remove {DOMAIN}")
@reaching
@stoppable
async def remove(out: Output, engine: Engine, domain: Domain) -> None:
    """Have an engine forget a storage domain without disks; what is on it stays."""
    from cli.engine_acting import removed

    await removed(out, engine, "storagedomains", domain, "storage domain {name} is forgotten")


@command(app, "maintenance", example=f"engine domain maintenance {DOMAIN}")
@reaching
@stoppable
async def maintenance(out: Output, engine: Engine, domain: Domain) -> None:
    """Use a storage domain for nothing new, until it is activated again."""
    await _act(out, engine, domain, "deactivate", "is in maintenance")


@command(app, "activate", example=f"engine domain activate {DOMAIN}")
@reaching
@stoppable
async def activate(out: Output, engine: Engine, domain: Domain) -> None:
    """Use a storage domain again."""
    await _act(out, engine, domain, "activate", "is active")


async def _act(out: Output, engine: Engine, domain: str, action: str, what: str) -> None:
    from cli.engine_acting import acted

    told = f"storage domain {{name}} {what}"
    await acted(out, engine, "storagedomains", domain, action=action, told=told)
