"""`leasehold managed attach|detach|list`: managed volumes on a host."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.command import command, stoppable
from cli.managed_parameters import DOMAIN, VOLUME, DomainName, Volume
from cli.output import Output
from cli.remote import FORMS, TIMEOUT, Ca, Certificate, Key, Timeout

if TYPE_CHECKING:
    from cli.managed_hosts import Host

HostUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help=f"The host, by its agent: {FORMS}. Default: this one, without an agent."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `leasehold managed`."""
    command(app, "attach", example=f"managed attach {DOMAIN} {VOLUME}")(attach)
    command(app, "detach", example=f"managed detach {DOMAIN} {VOLUME}")(detach)
    command(app, "list", example="managed list --json")(list_)


@stoppable
async def attach(
    out: Output,
    domain: DomainName,
    volume: Volume,
    *,
    host: HostUrl = None,
    ca: Ca = "",
    certificate: Certificate = "",
    key: Key = "",
    timeout: Timeout = TIMEOUT,
) -> None:
    """Connect a volume for a host, and attach it there.

    Prints the path or url that `leasehold copy` takes, on that host; with --host `leasehold copy
    --host` and `leasehold job submit`. When a step fails, all that was done is undone.
    """
    from cli.managed_attaching import attach as attached
    from cli.managed_storage import opened

    found = opened(domain)
    made = await attached(found, volume, _host(host, ca, certificate, key, timeout), out)
    facts = {
        "domain": found.name,
        "volume": str(volume),
        "host": host,
        "path": made.path,
        "managed_path": made.managed_path,
        "attachment": made.attachment,
    }
    out.result(facts, made.managed_path or made.path)


@stoppable
async def detach(
    out: Output,
    domain: DomainName,
    volume: Volume,
    *,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Have the storage shut out every host, also those that answer and use the volume;"
            " with --host or --only that one alone.",
        ),
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="With --force: this host alone, as `managed volume info` names it."
        ),
    ] = None,
    host: HostUrl = None,
    ca: Ca = "",
    certificate: Certificate = "",
    key: Key = "",
    timeout: Timeout = TIMEOUT,
) -> None:
    """Detach a volume from a host, and have the storage disconnect it.

    A volume that a copy uses is not detached (exit code 6); one that is not attached is no error.
    """
    from cli.managed_attaching import detach as detached
    from cli.managed_attaching import force as forced
    from cli.managed_storage import opened
    from protocol.errors import BadParameter

    if only is not None and not force:
        raise BadParameter("--only", "it goes with --force")
    found = opened(domain)
    place = _host(host, ca, certificate, key, timeout)
    facts = {"domain": found.name, "volume": str(volume), "host": host}
    if force:
        name = _name(found.id, str(volume), host) if host and only is None else only
        hosts = await forced(found, volume, place, name, out)
        named = ", ".join(hosts) or "every host"
        out.done({**facts, "disconnected": hosts}, f"disconnected volume {volume} from {named}")
        return
    done = await detached(found, volume, place, out)
    text = f"detached volume {volume}" if done else f"volume {volume} is not attached"
    out.done({**facts, "detached": done}, text)


@stoppable
async def list_(
    out: Output,
    *,
    host: HostUrl = None,
    ca: Ca = "",
    certificate: Certificate = "",
    key: Key = "",
    timeout: Timeout = TIMEOUT,
) -> None:
    """List the volumes that are attached to a host, or not quite attached or detached.

    Without --host also those that were attached to other hosts by this user; these are not asked.
    """
    from cli.managed_listing import line, rows

    found = await rows(_host(host, ca, certificate, key, timeout))
    out.result({"volumes": found}, "\n".join(map(line, found)) or "no volumes are attached")


def _host(host: str | None, ca: str, certificate: str, key: str, timeout: float) -> "Host":
    from cli.managed_hosts import Here, There
    from cli.remote import remote

    return Here() if host is None else There(remote(host, ca, certificate, key, timeout))


def _name(domain: str, volume: str, host: str) -> str:
    """What a host calls itself, which may not answer any more. Raises BadParameter (1000)."""
    from uuid import UUID

    from cli.managed_connections import of_volume
    from protocol.errors import BadParameter

    for one in of_volume(UUID(domain), UUID(volume)):
        if one.host == host:
            return one.connector.host
    raise BadParameter("--host", "the volume was not attached there; name the host by --only")
