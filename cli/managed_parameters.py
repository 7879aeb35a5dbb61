"""Parameters of the commands `leasehold managed ...`."""

from typing import Annotated
from uuid import UUID

import typer

from protocol.errors import BadParameter

DOMAIN = "array1"  # in examples
VOLUME = "66666666-7777-4888-8999-aaaaaaaaaaaa"
NEW = "77777777-8888-4999-8aaa-bbbbbbbbbbbb"
SNAPSHOT = "88888888-9999-4aaa-8bbb-cccccccccccc"


def known_names(incomplete: str) -> list[str]:
    """For the shell: the names of known domains that begin so; none when they cannot be read."""
    from cli.managed_known import known

    try:
        return [name for name in known() if name.startswith(incomplete)]
    except (BadParameter, OSError):
        return []


DomainName = Annotated[
    str,
    typer.Argument(
        metavar="DOMAIN",
        help="The name or id of a domain that was added.",
        autocompletion=known_names,
    ),
]
Volume = Annotated[UUID, typer.Argument(metavar="VOLUME", help="The id of a volume.")]
NewId = Annotated[
    UUID | None,
    typer.Option(
        "--id",
        help="The id of the new volume; with it the command can be repeated. Default: a new one.",
    ),
]
Snapshot = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="The id of a snapshot.")]
Size = Annotated[
    str,
    typer.Option(metavar="N", help="Size of the disk, such as 10G; rounded up to whole GiB."),
]


def checked_snapshot(text: str) -> str:
    """Raises BadParameter (1000)."""
    import re

    if not re.fullmatch(r"[!-~]{1,255}", text, re.ASCII):
        raise BadParameter("SNAPSHOT", f"{text!r:.80} is no id of a snapshot")
    return text
