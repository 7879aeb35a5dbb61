"""`leasehold engine serve|init|config`: the engine itself."""

from pathlib import Path
from typing import Annotated

import typer

from cli.agent import Defaults, Settings, settings
from cli.command import command, stoppable
from cli.output import Output

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The configuration; default: /etc/leasehold/engine.toml, which may be missing.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `leasehold engine`."""
    command(app, "serve", example="engine serve --set listen.plain=127.0.0.1:8080")(serve)
    command(app, "init", example="engine init --user admin")(init)
    command(app, "config", example="engine config --defaults")(config)


def serve(out: Output, *, config: ConfigFile = None, set: Settings = None) -> None:
    """Run the engine in the foreground, until SIGTERM or Ctrl-C.

    Copies go on without it, and its commands go on when it is started anew. SIGHUP has it read its
    certificate again. What it logs is configured: log.level, log.format.
    """
    import os

    import trio

    from engine import config_file
    from engine.serving import serve as served
    from processes import logs
    from processes.notify import Notifier

    read = config_file.load(config, environment(), settings(set))
    logs.to_stderr(read.log)

    async def main() -> None:
        await served(read, Notifier.of(os.environ))

    trio.run(main)


@stoppable
async def init(
    out: Output,
    *,
    user: Annotated[str, typer.Option(metavar="NAME", help="The first administrator.")] = "admin",
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin",
            help="Read the password from stdin. Default: make one, and print it.",
        ),
    ] = False,
    config: ConfigFile = None,
    set: Settings = None,
) -> None:
    """Make the database, the key of what is secret in it, and the first administrator.

    For an administrator who is there already it sets a new password. Not while the engine runs.
    """
    import secrets

    from cli.passwords import from_stdin
    from engine import config_file
    from engine.db.address import parsed, shown
    from engine.first_admin import prepare

    read = config_file.load(config, environment(), settings(set))
    password = await from_stdin() if password_stdin else secrets.token_urlsafe(18)
    await prepare(read, user, password)
    where = shown(parsed(read.database_url))
    facts = {"user": user, "database": where, "key_file": str(read.key_file)}
    if not password_stdin:
        facts["password"] = password
    told = "" if password_stdin else f"; the password is {password}"
    kept = f"keep {read.key_file}: without it what is secret in the database is lost"
    out.result(facts, f"{user} may do all{told}\nthe database is {where}\n{kept}")


def config(
    out: Output,
    *,
    config: ConfigFile = None,
    set: Settings = None,
    defaults: Defaults = False,
) -> None:
    """Print the configuration that is in effect, as TOML; with --json as an object."""
    import msgspec

    from engine import config_file, config_text
    from engine.config import Config

    read = Config() if defaults else config_file.load(config, environment(), settings(set))
    text = config_text.commented() if defaults else config_text.effective(read)
    out.result(msgspec.to_builtins(read, enc_hook=float), text.rstrip("\n"))


def environment() -> dict[str, str]:
    """That of this process; where LEASEHOLD_HOME is set, the state of the engine lies in it."""
    import os

    from cli.home import VARIABLE, home

    state = {"LEASEHOLD_ENGINE_FOLDERS_STATE": str(home() / "engine")}
    return {**(state if os.environ.get(VARIABLE) else {}), **os.environ}
