"""`leasehold volume`: the volumes of a storage domain."""

from typing import Annotated, Literal
from uuid import UUID

import typer

from cli.command import command, group, stoppable
from cli.output import Output
from cli.parameters import Sd, Store

app = group(
    "volume",
    "Create and look at the volumes of a storage domain.",
    example="volume list 1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef",
)

SD = "1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"
IMAGE = "66666666-7777-4888-8999-aaaaaaaaaaaa"
VOLUME = "77777777-8888-4999-8aaa-bbbbbbbbbbbb"


@command(app, "create", example=f"volume create {SD} --format qcow2 --size 10G")
@stoppable
async def create(
    out: Output,
    sd: Sd,
    *,
    image: Annotated[
        UUID | None,
        typer.Option(help="The image that it is of; default: that of the parent, or a new one."),
    ] = None,
    id: Annotated[
        UUID | None, typer.Option("--id", help="The id of the new volume; default: a new one.")
    ] = None,
    format: Annotated[
        Literal["raw", "qcow2"] | None,
        typer.Option(help="Default: qcow2 with a parent, else raw."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="N", help="Size of the disk, such as 10G; default: the parent's."),
    ] = None,
    parent: Annotated[
        UUID | None, typer.Option(help="The volume that it is on; it is not written any more.")
    ] = None,
    preallocated: Annotated[
        bool, typer.Option("--preallocated", help="Take all space now; raw only.")
    ] = False,
) -> None:
    """Create an empty volume, or one on another volume of the image."""
    import time
    import uuid

    import trio

    from cli import known
    from cli.sizes import parse_size
    from cli.volume_text import described
    from endpoints.volume import create_volume
    from protocol.errors import BadParameter
    from storage.volume import find
    from storage.volume_request import Request

    if size is None and parent is None:
        raise BadParameter("--size", "only a volume with a parent can do without")
    request = Request(
        format=format or ("raw" if parent is None else "qcow2"),
        capacity=None if size is None else parse_size(size, "--size"),
        now=int(time.time()),
        preallocated=preallocated,
        parent=None if parent is None else str(parent),
    )
    domain = await known.opened(str(sd))
    img_id = str(image or uuid.uuid4())
    if image is None and parent is not None:
        img_id = (await trio.to_thread.run_sync(find, domain, str(parent))).img_id
    made = await create_volume(domain, img_id, str(id or uuid.uuid4()), request)
    out.result(described(made), f"created volume {made.id} of image {made.img_id} at {made.path}")


@command(app, "info", example=f"volume info {SD} {IMAGE} {VOLUME}")
@stoppable
async def info(
    out: Output,
    sd: Sd,
    image: Annotated[UUID, typer.Argument(metavar="IMG", help="The id of the image.")],
    volume: Annotated[UUID, typer.Argument(metavar="VOL", help="The id of the volume.")],
    store: Store = "auto",
) -> None:
    """Show one volume: who holds its lease, its metadata, its files and the chain below it."""
    import trio

    from cli import known
    from cli.volume_text import details, lines
    from endpoints.domain import open_store
    from endpoints.volume import owners
    from storage.volume import read

    domain = await known.opened(str(sd))
    found = await trio.to_thread.run_sync(read, domain, str(image), str(volume))
    held = await owners(await open_store(domain, store), found)
    facts = await trio.to_thread.run_sync(details, domain, str(image), str(volume))
    facts = {**facts, "owners": held}
    out.result(facts, lines(facts))


@command(app, "list", example=f"volume list {SD} --json")
@stoppable
async def list_(out: Output, sd: Sd) -> None:
    """List the volumes of a storage domain; one that cannot be read says why."""
    import trio

    from cli import known
    from cli.volume_text import line, rows

    found = await trio.to_thread.run_sync(rows, await known.opened(str(sd)))
    out.result({"volumes": found}, "\n".join(map(line, found)) or "no volumes")
