"""`leasehold pki`: certificates for hosts and for those who call them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.command import command, group, stoppable
from cli.output import Output

if TYPE_CHECKING:
    from host.pki import CertificateRole, Issued

app = group(
    "pki",
    "Make a certificate authority, and certificates for hosts and their clients.",
    example="pki issue host1.example.com --host",
)

Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="DIR",
        help="Where the authority is; default: for root /etc/leasehold/pki, else `pki` in the"
        " folder of this user's state (LEASEHOLD_HOME).",
    ),
]
Days = Annotated[int, typer.Option(metavar="N", help="For how many days it is valid.")]
Replace = Annotated[
    bool,
    typer.Option(
        "--replace", help="Make it anew; the former one is kept beside it, as NAME.old-N."
    ),
]
AUTHORITY_DAYS = 3650
DAYS = 365
OF_ROOT = Path("/etc/leasehold/pki")


@command(app, "init", example="pki init")
@stoppable
async def init(
    out: Output,
    folder: Folder = None,
    *,
    name: Annotated[
        str, typer.Option(metavar="CN", help="The name that certificates give their authority.")
    ] = "leasehold",
    days: Days = AUTHORITY_DAYS,
    replace: Replace = False,
) -> None:
    """Make the authority of a site. Whoever has its key can make certificates that all hosts trust.

    With --replace no certificate of the former authority is worth anything any more.
    """
    from host import pki

    made = await pki.init(place(folder), name=name, days=days, replace=replace)
    facts = {"name": name, "folder": made.folder, "ca": made.ca, "key": made.key}
    out.done(facts, f"made an authority in {made.folder}; keep its key.pem where it is")


@command(app, "issue", example="pki issue host1.example.com --host --address 192.0.2.11")
@stoppable
async def issue(
    out: Output,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Whose it is: the name of a host, or any other.")
    ],
    folder: Folder = None,
    *,
    role: Annotated[
        Literal["engine", "monitor"] | None,
        typer.Option(help="For a client: an engine may do all, a monitor only look."),
    ] = None,
    host: Annotated[bool, typer.Option("--host", help="For the agent of a host.")] = False,
    address: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="With --host: one more name or address that clients reach it by; can be repeated.",
        ),
    ] = None,
    days: Days = DAYS,
    replace: Replace = False,
) -> None:
    """Make a key and a certificate for a host (--host) or a client (--role), in DIR/NAME.

    That folder has all that NAME needs: copy it there.
    """
    from host import pki

    kind, names = checked(name, role, address or [], host=host)
    made = await pki.issue(place(folder), name, role=kind, days=days, names=names, replace=replace)
    facts = {
        **{"name": name, "role": kind, "folder": made.folder},
        **{"ca": made.ca, "certificate": made.certificate, "key": made.key},
        **({"addresses": names} if host else {}),
    }
    out.done(facts, for_host(made) if host else for_client(made, kind))


def place(folder: Path | None) -> Path:
    """The folder of the authority, absolute: its paths go into configuration files."""
    import os

    from cli.home import VARIABLE, home

    if folder is not None:
        return Path(os.path.abspath(folder))
    if os.geteuid() == 0 and not os.environ.get(VARIABLE):
        return OF_ROOT
    return home() / "pki"


def checked(
    name: str, role: Literal["engine", "monitor"] | None, addresses: list[str], *, host: bool
) -> "tuple[CertificateRole, list[str]]":
    """The role, and the names of a host: its own is one of them. Raises BadParameter (1000)."""
    from protocol.errors import BadParameter

    if host and role is None:
        return "host", [name, *addresses]
    if host or role is None:
        raise BadParameter("--role", "one of --host, --role engine and --role monitor is needed")
    if addresses:
        raise BadParameter("--address", "a client is not reached by any: only with --host")
    return role, []


def for_host(made: "Issued") -> str:
    """What to write into host.toml."""
    return f"""\
made a certificate in {made.folder}
copy that folder to its host, and say in /etc/leasehold/host.toml there where the files are:

[listen]
tls = ["*:54321"]

[certificates]
{_toml(ca=made.ca, certificate=made.certificate, key=made.key)}"""


def for_client(made: "Issued", role: str) -> str:
    """What to say to a command that calls a host."""
    import shlex

    may = "do all" if role == "engine" else "only look"
    ca, certificate, key = map(shlex.quote, (made.ca, made.certificate, made.key))
    return f"""\
made a certificate in {made.folder}; who has its key may {may}
copy that folder to its owner, whose commands find it by

--host tls://NAME-OF-A-HOST --ca {ca} --certificate {certificate} --key {key}"""


def _toml(**settings: Any) -> str:
    from protocol.settings_text import written

    return "\n".join(f"{key} = {written(value)}" for key, value in settings.items())
