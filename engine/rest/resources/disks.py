"""Disks: list, get, add, change, remove; copy and move stand in disk_actions.py."""

from typing import Literal

from engine.commands.specs import AddDisk, ExtendDisk, RemoveDisk
from engine.db import disks, domains
from engine.db.disks import Disk
from engine.disk_admin import rename_disk
from engine.rest import places
from engine.rest.api import Api
from engine.rest.element import Element, Many, Node, link, named
from engine.rest.operation import Answer, Call, Listed, Operation
from engine.rest.reading import disk_at, domain_of, path_id
from engine.rest.resources.begun import action, begun, ended
from engine.rest.schema import (
    ACTION,
    ACTIONS,
    FLAG,
    FLAG_IN,
    ID,
    NAME_IN,
    NAMED_IN,
    NUMBER,
    REFERENCE,
    SIZE_IN,
    TEXT,
    TEXT_IN,
    fields,
    just_one,
    many,
    one_of,
)
from engine.rest.search import parsed
from protocol.errors import BadParameter, NotSupported

SEARCH = ("id", "name", "status")
MANAGED = "managed"


def disk_element(disk: Disk) -> Element:
    href = f"{places.DISKS}/{disk.id}"
    storage = "managed_block_storage" if disk.kind == MANAGED else "image"
    actions = tuple(link(name, f"{href}/{name}") for name in ("copy", "move"))
    return Element(
        "disk",
        disk.id,
        href,
        {
            "actions": Element("actions", fields={"link": actions}),
            "name": disk.name,
            "alias": disk.name,
            "description": disk.description,
            "content_type": "data",
            "format": disk.format,
            "image_id": disk.volume or "",
            "provisioned_size": disk.size,
            "sparse": disk.sparse,
            "status": disk.state,
            "storage_type": storage,
            "storage_domains": Many(
                "storage_domain", (named("storage_domain", disk.domain, places.DOMAINS),)
            ),
        },
    )


def listed(found: list[Disk]) -> Listed:
    return Listed("disks", Many("disk", tuple(map(disk_element, found))))


async def list_disks(api: Api, call: Call) -> Answer:
    search = parsed(call.query.get("search"), SEARCH)
    most = call.query.max
    found = await api.database.read(
        lambda c: disks.search(
            c,
            id=search["id"],
            name=search["name"],
            state=search["status"],
            limit=most,
            offset=(search.page - 1) * most,
        )
    )
    return Answer(listed(found))


async def get_disk(api: Api, call: Call) -> Answer:
    return Answer(disk_element(await api.database.read(lambda c: disk_at(c, call))))


async def add_disk(api: Api, call: Call) -> Answer:
    node = call.node
    wanted = await _domain(api, call)
    spec = AddDisk(
        name=_required(node.get("name") or node.get("alias"), "name"),
        description=node.get("description") or "",
        domain=wanted,
        size=_size(node),
        format=format_of(node.get("format")) or "raw",
        sparse=node.flag("sparse") is not False,
    )
    command = await begun(api, call, "add_disk", spec)
    await ended(api, call, command)
    made = await api.database.read(lambda c: disks.get(c, command.spec.disk))
    return Answer(disk_element(made), 202 if made.state == "locked" else 201)


async def _domain(api: Api, call: Call) -> str:
    nodes = list(call.node.all("storage_domains", "storage_domain"))
    nodes += list(call.node.all("storage_domain"))
    if "domain" in call.path:  # POST /storagedomains/ID/disks
        nodes.append(Node("storage_domain", children=(Node("id", call.path["domain"]),)))
    if len(nodes) != 1:
        raise BadParameter("storage_domains", "exactly one storage domain has to be named")
    return (await api.database.read(lambda c: domain_of(c, nodes[0]))).id


def _required(text: str | None, name: str) -> str:
    if text is None:
        raise BadParameter(name, "it is missing")
    return text


def _size(node: Node) -> int:
    size = node.number("provisioned_size")
    if size is None:
        raise BadParameter("provisioned_size", "it is missing: bytes")
    return size


def format_of(text: str | None) -> Literal["raw", "cow"] | None:
    match text:
        case "raw" | "cow" | None:
            return text
        case _:
            raise BadParameter("format", "it is neither raw nor cow")


async def change_disk(api: Api, call: Call) -> Answer:
    """A larger size is a command, which goes on after the answer; name and description are not."""
    disk = await api.database.read(lambda c: disk_at(c, call))
    node = call.node
    name, description = node.get("name") or node.get("alias"), node.at("description")
    size = node.number("provisioned_size")
    if size is not None and size < disk.size:
        raise NotSupported("a disk that gets smaller")
    if name is not None or description is not None:
        await rename_disk(
            api.admin(call),
            disk.id,
            name=disk.name if name is None else name,
            description=disk.description if description is None else description.text,
        )
    if size is not None and size > disk.size:
        command = await begun(api, call, "extend_disk", ExtendDisk(disk=disk.id, size=size))
        await ended(api, call, command)
    return await get_disk(api, call)


async def remove_disk(api: Api, call: Call) -> Answer:
    disk = path_id(call, "disk")
    command = await begun(api, call, "remove_disk", RemoveDisk(disk=disk))
    status = await ended(api, call, command)
    return Answer(action(command, status, disk))


async def list_disks_of(api: Api, call: Call) -> Answer:
    """GET /storagedomains/ID/disks."""
    domain, most = path_id(call, "storage domain", "domain"), call.query.max
    found = await api.database.read(
        lambda c: disks.search(c, domain=domains.get(c, domain).id, limit=most)
    )
    return Answer(listed(found))


DISK = fields(
    ("id", "href", "name", "status"),
    id=ID,
    href=TEXT,
    actions=ACTIONS,
    name=TEXT,
    alias=TEXT,
    description=TEXT,
    content_type=one_of("data"),
    format=one_of("raw", "cow"),
    image_id=TEXT,
    provisioned_size=NUMBER,
    sparse=FLAG,
    status=one_of("ok", "locked", "illegal"),
    storage_type=one_of("image", "managed_block_storage"),
    storage_domains=many("storage_domain", REFERENCE),
)
_LIST = many("disk", DISK)
_COMMON_IN = {"name": NAME_IN, "description": TEXT_IN}
_NEW = fields(
    ("name", "provisioned_size", "storage_domains"),
    **_COMMON_IN,
    provisioned_size=SIZE_IN,
    format=one_of("raw", "cow"),
    sparse=FLAG_IN,
    storage_domains=just_one("storage_domain", NAMED_IN),
)
_CHANGED = fields((), **_COMMON_IN, provisioned_size=SIZE_IN)
_WAITS = ("async", "correlation_id")

OPERATIONS = (
    Operation(
        "GET",
        places.DISKS,
        list_disks,
        "Disks, by name; `search` by id, name or status.",
        gives=_LIST,
        query=("search", "max"),
        search=SEARCH,
    ),
    Operation(
        "POST",
        places.DISKS,
        add_disk,
        "Add an empty disk. It is locked until it is made.",
        "operator",
        takes=_NEW,
        root="disk",
        gives=DISK,
        query=_WAITS,
        status=(201, 202),
    ),
    Operation("GET", f"{places.DISKS}/{{id}}", get_disk, "One disk.", gives=DISK),
    Operation(
        "PUT",
        f"{places.DISKS}/{{id}}",
        change_disk,
        "Name it anew, or make it larger.",
        "operator",
        takes=_CHANGED,
        root="disk",
        gives=DISK,
        query=_WAITS,
    ),
    Operation(
        "DELETE",
        f"{places.DISKS}/{{id}}",
        remove_disk,
        "Remove a disk with its snapshots.",
        "operator",
        gives=ACTION,
        query=_WAITS,
    ),
    Operation(
        "GET",
        f"{places.DOMAINS}/{{domain}}/disks",
        list_disks_of,
        "The disks of one storage domain.",
        gives=_LIST,
        query=("max",),
    ),
    Operation(
        "POST",
        f"{places.DOMAINS}/{{domain}}/disks",
        add_disk,
        "Add an empty disk to this storage domain.",
        "operator",
        takes=fields(
            ("name", "provisioned_size"),
            **_COMMON_IN,
            provisioned_size=SIZE_IN,
            format=one_of("raw", "cow"),
            sparse=FLAG_IN,
        ),
        root="disk",
        gives=DISK,
        query=_WAITS,
        status=(201, 202),
    ),
)
