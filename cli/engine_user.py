"""`leasehold engine user`: who may do what."""

from typing import Annotated, Literal

import typer

from cli.command import command, group, stoppable
from cli.engine_client import Engine, reaching
from cli.output import Output

app = group(
    "user",
    "Say who may look, work, and administer.",
    example="engine user add anna --role operator",
)
Role = Literal["reader", "operator", "admin"]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of a user.")]
RoleOption = Annotated[
    Role | None,
    typer.Option(help="A reader may look, an operator work with disks, an admin do all."),
]


@command(app, "add", example="engine user add anna --role operator")
@reaching
@stoppable
async def add(
    out: Output,
    engine: Engine,
    name: Name,
    *,
    role: Annotated[
        Role,
        typer.Option(help="A reader may look, an operator work with disks, an admin do all."),
    ] = "reader",
) -> None:
    """Add a user. The password is asked for on a terminal, else read from stdin."""
    from cli.engine_client import OURS
    from cli.passwords import asked

    body = {"name": name, "password": await asked(name), "role": role}
    async with engine.connected() as session:
        row = await session.post(f"{OURS}/users", body)
    out.done(row, f"added user {name}: {role}")


@command(app, "list", example="engine user list")
@reaching
@stoppable
async def list_(out: Output, engine: Engine) -> None:
    """List the users."""
    from cli.columns import table
    from cli.engine_client import OURS

    async with engine.connected() as session:
        rows = (await session.get(f"{OURS}/users"))["users"]
    out.result(
        {"users": rows}, table(("NAME", "ROLE"), [(row["name"], row["role"]) for row in rows])
    )


@command(app, "change", example="engine user change anna --role admin")
@reaching
@stoppable
async def change(
    out: Output,
    engine: Engine,
    name: Name,
    *,
    role: RoleOption = None,
    password: Annotated[
        bool, typer.Option("--password", help="A new password: asked for, or read from stdin.")
    ] = False,
) -> None:
    """Give a user another role or password; whoever is logged in with that name is not any more."""
    from cli.engine_client import OURS
    from cli.engine_job import part
    from cli.passwords import asked

    body = {"role": role, "password": await asked(name) if password else None}
    async with engine.connected() as session:
        row = await session.put(f"{OURS}/users/{part(name)}", body)
    out.done(row, f"user {name}: {row['role']}")


@command(app, "remove", example="engine user remove anna")
@reaching
@stoppable
async def remove(out: Output, engine: Engine, name: Name) -> None:
    """Remove a user; the tokens are worth nothing any more."""
    from cli.engine_client import OURS
    from cli.engine_job import part

    async with engine.connected() as session:
        await session.delete(f"{OURS}/users/{part(name)}")
    out.done({"name": name}, f"removed user {name}")
