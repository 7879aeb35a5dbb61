"""One object of an engine, by its name or id: removed, or told to do something."""

from cli.engine_client import OVIRT, Engine
from cli.engine_objects import Object, found, listed_center
from cli.output import Output

DOMAINS = "storagedomains"


async def removed(out: Output, engine: Engine, path: str, name: str, told: str) -> None:
    """path: of its kind: "hosts". told: for people, with {name}. Raises as `found`, Session."""
    async with engine.connected() as session:
        row = await found(session, path, name)
        await session.delete(f"{OVIRT}/{path}/{row['id']}")
    _tell(out, row, told)


async def acted(
    out: Output, engine: Engine, path: str, name: str, *, action: str, told: str
) -> None:
    """Likewise. action: such as "deactivate"; those of domains are told through their center."""
    async with engine.connected() as session:
        row = await found(session, path, name)
        of = f"datacenters/{await listed_center(session)}/{path}" if path == DOMAINS else path
        await session.post(f"{OVIRT}/{of}/{row['id']}/{action}", {})
    _tell(out, row, told)


def _tell(out: Output, row: Object, told: str) -> None:
    out.done({"id": row["id"], "name": row["name"]}, told.format(name=row["name"]))
