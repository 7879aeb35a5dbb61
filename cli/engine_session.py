"""`leasehold engine login|logout|whoami`: who one is to an engine."""

from typing import Annotated

import typer

from cli.command import command, stoppable
from cli.engine_client import TIMEOUT, Ca, Engine, Timeout, reaching
from cli.output import Output


def register(app: typer.Typer) -> None:
    """Add the commands to `leasehold engine`."""
    command(app, "login", example="engine login https://engine.example:8443 --user admin")(login)
    command(app, "logout", example="engine logout")(logout)
    command(app, "whoami", example="engine whoami")(whoami)


@stoppable
async def login(
    out: Output,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="The engine, such as https://engine.example:8443.",
            show_default=False,
        ),
    ],
    *,
    user: Annotated[str, typer.Option(metavar="NAME", help="Who logs in.")] = "admin",
    ca: Ca = "",
    timeout: Timeout = TIMEOUT,
) -> None:
    """Log in to an engine, which is that of the other commands from then on.

    The password is asked for on a terminal, else read from stdin. What is kept is a token, which
    ends by itself.
    """
    from cli.engine_client import LOGIN, read, told
    from cli.engine_login import Login, remember
    from cli.passwords import asked

    where, authority = url.rstrip("/"), absolute(ca)
    engine = Engine(where, authority, "", timeout)
    form = {
        "grant_type": "password",
        "scope": "ovirt-app-api",
        "username": user,
        "password": await asked(user),
    }
    async with engine.connected() as session:
        with told(where):
            answer = await session.client.post(LOGIN, data=form)
        made = read(answer, where)
    expires = float(made["exp"]) / 1000
    await remember(where, Login(user, made["access_token"], expires, authority))
    out.done({"engine": where, "user": user, "expires": expires}, f"{user} is logged in at {where}")


@reaching
@stoppable
async def logout(out: Output, engine: Engine) -> None:
    """Have an engine forget the token of the last login, and forget it here."""
    from cli.engine_client import LOGOUT, told
    from cli.engine_login import forget

    await forget(engine.url)
    if engine.token:
        async with engine.connected() as session:
            with told(engine.url):
                await session.client.post(LOGOUT, data={"token": engine.token})
    out.done({"engine": engine.url}, f"logged out of {engine.url}")


@reaching
@stoppable
async def whoami(out: Output, engine: Engine) -> None:
    """Show who is logged in, with which role."""
    from cli.engine_client import OURS

    async with engine.connected() as session:
        row = await session.get(f"{OURS}/me")
    out.result({**row, "engine": engine.url}, f"{row['name']} ({row['role']}) at {engine.url}")


def absolute(path: str) -> str:
    """It is kept, and used from other folders."""
    import os

    return os.path.abspath(path) if path else ""
