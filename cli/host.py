"""`leasehold host`: this host among those that share a storage domain by sanlock."""

from typing import Annotated

import typer

from cli.command import command, group, stoppable
from cli.output import Output
from cli.parameters import Sd

app = group(
    "host",
    "Join, leave and look at the hosts that share a storage domain.",
    example="host status 1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef",
)

DOMAIN = "1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"


@command(app, "join", example=f"host join {DOMAIN} --host-id 1")
@stoppable
async def join(
    out: Output,
    sd: Sd,
    *,
    host_id: Annotated[
        int,
        typer.Option(
            min=1, max=2000, metavar="N", help="1 to 2000; no other host of the domain has it."
        ),
    ],
    no_watchdog: Annotated[
        bool,
        typer.Option(
            "--no-watchdog", help="Accept a sanlock daemon that does not reset a failing host."
        ),
    ] = False,
) -> None:
    """Join a storage domain as its host N; the sanlock daemon keeps that until `host leave`.

    It takes some seconds, up to a minute after a crash of this host, and more for an id whose last
    host has died. A domain of the embedded store becomes one of sanlock. Ctrl-C ends it. The agent
    of this host, if it runs (LEASEHOLD_HOST may name its socket), joins it again by itself later.
    """
    from cli import known, own_agent
    from cli.host_text import member, member_text
    from cli.joining import joined

    made = await joined(str(sd), host_id, out, without_watchdog=no_watchdog)
    await own_agent.joined(str(sd), known.known()[str(sd)], host_id, out)
    out.done(member(str(sd), made), member_text(str(sd), made))


@command(app, "leave", example=f"host leave {DOMAIN}")
@stoppable
async def leave(out: Output, sd: Sd) -> None:
    """Leave a storage domain; refused while jobs of this host hold leases in it.

    The agent of this host, if it runs, does not join it again.
    """
    from cli import known, own_agent
    from endpoints.domain import lockspace_of
    from leases import lockspace

    space = lockspace_of(await known.opened(str(sd)))
    await own_agent.leaves(str(sd), out)
    await lockspace.leave(space)
    out.done({"sd_id": str(sd)}, f"this host is not in storage domain {sd} any more")


@command(app, "status", example=f"host status {DOMAIN} --json")
@stoppable
async def status(out: Output, sd: Sd) -> None:
    """Show who this host is in a storage domain, and which hosts it has ever had."""
    from cli import known
    from cli.host_text import status_object, status_text
    from endpoints.domain import lockspace_of
    from leases import lockspace

    found = await lockspace.status(lockspace_of(await known.opened(str(sd))))
    out.result(status_object(str(sd), found), status_text(str(sd), found))
