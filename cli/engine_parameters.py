"""Parameters of the commands `leasehold engine ...`, and what the shell completes of them."""

from typing import Annotated

import typer

DISK = "web-data"  # in examples
DOMAIN = "array1"
HOST = "host1"
JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
SNAPSHOT = "88888888-9999-4aaa-8bbb-cccccccccccc"
PATIENCE = 2.0  # seconds for an engine to say what there is


def _named(path: str, incomplete: str) -> list[str]:
    """Names of objects that begin so; none when the engine does not tell."""
    import os

    import trio

    from cli.engine_client import engine_of
    from cli.engine_objects import names

    url, ca = (os.environ.get(name, "") for name in ("LEASEHOLD_ENGINE", "LEASEHOLD_ENGINE_CA"))

    async def ask() -> list[str]:
        with trio.fail_after(PATIENCE):
            async with engine_of(url, ca, PATIENCE).connected() as session:
                return [*(await names(session, path)).values()]

    try:
        return [name for name in trio.run(ask) if name.startswith(incomplete)]
    except Exception:  # a shell wants no explanation
        return []


def disk_names(incomplete: str) -> list[str]:
    return _named("disks", incomplete)


def domain_names(incomplete: str) -> list[str]:
    return _named("storagedomains", incomplete)


def host_names(incomplete: str) -> list[str]:
    return _named("hosts", incomplete)


Disk = Annotated[
    str,
    typer.Argument(metavar="DISK", help="The name or id of a disk.", autocompletion=disk_names),
]
Domain = Annotated[
    str,
    typer.Argument(
        metavar="DOMAIN",
        help="The name or id of a storage domain.",
        autocompletion=domain_names,
    ),
]
To = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="DOMAIN",
        help="The name or id of the storage domain that it goes to.",
        autocompletion=domain_names,
    ),
]
Host = Annotated[
    str,
    typer.Argument(metavar="HOST", help="The name or id of a host.", autocompletion=host_names),
]
Job = Annotated[str, typer.Argument(metavar="JOB", help="The id of a job.")]
Snapshot = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="The id of a snapshot.")]
Watch = Annotated[
    bool, typer.Option("--watch", "-w", help="Wait for the end of the job, and show its progress.")
]
