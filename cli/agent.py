"""`leasehold host serve|config|drain|resume`: the agent of a host."""

from pathlib import Path
from typing import Annotated

import typer

from cli.command import command, stoppable
from cli.output import Output
from cli.remote import Remote, connecting

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The configuration; default: /etc/leasehold/host.toml, which may be missing.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="A setting that wins over file and environment; can be repeated.",
    ),
]
Defaults = Annotated[
    bool, typer.Option("--defaults", help="Print a new file: every setting explained, none set.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `leasehold host`."""
    command(app, "serve", example="host serve --set jobs.concurrency=4")(serve)
    command(app, "config", example="host config --defaults")(config)
    command(app, "drain", example="host drain --wait 600")(drain)
    command(app, "resume", example="host resume")(resume)


def serve(out: Output, *, config: ConfigFile = None, set: Settings = None) -> None:
    """Run the agent of this host in the foreground, until SIGTERM or Ctrl-C.

    Copies go on without it, and it finds them again when it is started anew. SIGHUP has it read its
    certificates again. What it logs is configured: log.level, log.format.
    """
    import os

    import trio

    from cli.hardware import hardware_id
    from host import config_file
    from host.serving import serve as served
    from processes import logs
    from processes.notify import Notifier

    read = config_file.load(config, environment(), settings(set))

    logs.to_stderr(read.log)

    async def main() -> None:
        await served(read, await hardware_id(), Notifier.of(os.environ))

    trio.run(main)


def config(
    out: Output,
    *,
    config: ConfigFile = None,
    set: Settings = None,
    defaults: Defaults = False,
) -> None:
    """Print the configuration that is in effect, as TOML; with --json as an object."""
    import msgspec

    from host import config_file, config_text
    from host.config import Config

    read = Config() if defaults else config_file.load(config, environment(), settings(set))
    text = config_text.commented() if defaults else config_text.effective(read)
    out.result(msgspec.to_builtins(read, enc_hook=int), text.rstrip("\n"))


@connecting
@stoppable
async def drain(
    out: Output,
    remote: Remote,
    *,
    wait: Annotated[
        float | None,
        typer.Option(
            min=0, max=604800, metavar="S", help="Wait so many seconds at most; default: no limit."
        ),
    ] = None,
) -> None:
    """Have a host start no new job, and wait for those that run.

    It stays so, across restarts of its agent too, until `leasehold host resume`; also when the wait
    is over (exit code 6) or was ended by Ctrl-C. Jobs that are submitted meanwhile wait.
    """
    from cli.draining import drained

    await drained(remote, out, wait)
    out.done({"host": remote.name, "running": 0}, f"{remote.name} runs no job and starts none")


@connecting
@stoppable
async def resume(out: Output, remote: Remote) -> None:
    """Have a host start jobs again after `leasehold host drain`."""
    await remote.once("Host.resume", {})
    out.done({"host": remote.name}, f"{remote.name} starts jobs again")


def environment() -> dict[str, str]:
    """That of this process; LEASEHOLD_HOME, where it is set, is the state folder of the agent."""
    import os

    from cli.home import VARIABLE, home

    own = {"LEASEHOLD_FOLDERS_STATE": str(home())} if os.environ.get(VARIABLE) else {}
    return {**own, **os.environ}


def settings(given: list[str] | None) -> dict[str, str]:
    """`section.key` and value of each. Raises BadParameter (1000)."""
    from protocol.errors import BadParameter

    found = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not equals or "." not in name:
            raise BadParameter("--set", f"{one!r} is not SECTION.KEY=VALUE")
        found[name.strip()] = value.strip()
    return found
