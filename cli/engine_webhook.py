"""`leasehold engine webhook`: urls that an engine delivers its events to."""

from typing import Annotated

import typer

from cli.command import command, group, stoppable
from cli.engine_client import Engine, reaching
from cli.output import Output

app = group(
    "webhook",
    "Have events delivered to a url, signed.",
    example="engine webhook add https://ops.example/hook --event command.changed",
)
WEBHOOK = "77777777-8888-4999-8aaa-bbbbbbbbbbbb"


@command(app, "add", example="engine webhook add https://ops.example/hook --event command.changed")
@reaching
@stoppable
async def add(
    out: Output,
    engine: Engine,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events go: https://...")],
    *,
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Only events of this kind; can be repeated."),
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="What deliveries are signed with: env:VARIABLE or file:/PATH; it is read now.",
        ),
    ] = None,
) -> None:
    """Deliver events to a url. docs/engine.md says how a receiver checks the signature."""
    from cli.engine_client import OURS
    from cli.managed_options import revealed, secrets

    hidden = revealed(secrets([f"secret={secret}"]))["secret"] if secret else None
    body = {"url": url, "events": event or [], "secret": hidden}
    async with engine.connected() as session:
        row = await session.post(f"{OURS}/webhooks", body)
    out.result(row, f"added webhook {row['id']}")


@command(app, "list", example="engine webhook list")
@reaching
@stoppable
async def list_(out: Output, engine: Engine) -> None:
    """List the webhooks."""
    from cli.columns import table
    from cli.engine_client import OURS

    async with engine.connected() as session:
        rows = (await session.get(f"{OURS}/webhooks"))["webhooks"]
    cells = [
        (
            row["id"],
            "yes" if row["active"] else "no",
            "yes" if row["signed"] else "no",
            ", ".join(row["events"]) or "all",
            row["url"],
        )
        for row in rows
    ]
    text = table(("WEBHOOK", "ACTIVE", "SIGNED", "EVENTS", "URL"), cells)
    out.result({"webhooks": rows}, text if rows else "no webhooks")


@command(app, "remove", example=f"engine webhook remove {WEBHOOK}")
@reaching
@stoppable
async def remove(
    out: Output,
    engine: Engine,
    webhook: Annotated[str, typer.Argument(metavar="WEBHOOK", help="The id of a webhook.")],
) -> None:
    """Deliver nothing there any more."""
    from cli.engine_client import OURS
    from cli.engine_job import part

    async with engine.connected() as session:
        await session.delete(f"{OURS}/webhooks/{part(webhook)}")
    out.done({"id": webhook}, f"removed webhook {webhook}")
