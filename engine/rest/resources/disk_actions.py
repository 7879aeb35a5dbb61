"""Copy and move of a disk: POST /disks/ID/copy, /disks/ID/move."""

from engine.commands.copy_disk import CopyDisk
from engine.commands.move_disk import MoveDisk
from engine.rest import places
from engine.rest.api import Api
from engine.rest.operation import Answer, Call, Operation
from engine.rest.reading import disk_at, domain_of, path_id
from engine.rest.resources.begun import PENDING, action, begun, ended
from engine.rest.resources.disks import format_of
from engine.rest.schema import ACTION, FLAG_IN, NAME_IN, NAMED_IN, SIZE_IN, TEXT_IN, fields, one_of


async def copy_disk(api: Api, call: Call) -> Answer:
    node = call.node
    source = await api.database.read(lambda c: disk_at(c, call))
    target = await api.database.read(lambda c: domain_of(c, node.at("storage_domain")))
    spec = CopyDisk(
        disk=source.id,
        domain=target.id,
        name=node.get("disk", "name") or node.get("disk", "alias") or source.name,
        description=node.get("disk", "description") or "",
        format=format_of(node.get("disk", "format")),
        sparse=node.flag("disk", "sparse"),
        verify=node.flag("verify") or False,
        limit=node.number("limit"),
    )
    copy = await begun(api, call, "copy_disk", spec)
    status = await ended(api, call, copy)
    return Answer(action(copy, status, copy.spec.target), 202 if status == PENDING else 200)


async def move_disk(api: Api, call: Call) -> Answer:
    node = call.node
    target = await api.database.read(lambda c: domain_of(c, node.at("storage_domain")))
    spec = MoveDisk(disk=path_id(call, "disk"), domain=target.id, limit=node.number("limit"))
    move = await begun(api, call, "move_disk", spec)
    status = await ended(api, call, move)
    return Answer(action(move, status, move.spec.disk), 202 if status == PENDING else 200)


_QUERY = ("async", "correlation_id")
OPERATIONS = (
    Operation(
        "POST",
        f"{places.DISKS}/{{id}}/copy",
        copy_disk,
        "Copy a disk to a storage domain, as a new disk.",
        "operator",
        takes=fields(
            ("storage_domain",),
            storage_domain=NAMED_IN,
            disk=fields(
                (),
                name=NAME_IN,
                description=TEXT_IN,
                format=one_of("raw", "cow"),
                sparse=FLAG_IN,
            ),
            verify=FLAG_IN,
            limit=SIZE_IN,
            async_=FLAG_IN,
        ),
        root="action",
        gives=ACTION,
        query=_QUERY,
        status=(200, 202),
    ),
    Operation(
        "POST",
        f"{places.DISKS}/{{id}}/move",
        move_disk,
        "Move a disk: copy, compare, switch, remove the source.",
        "operator",
        takes=fields(("storage_domain",), storage_domain=NAMED_IN, limit=SIZE_IN, async_=FLAG_IN),
        root="action",
        gives=ACTION,
        query=_QUERY,
        status=(200, 202),
    ),
)
