"""Hosts: list, get, add, remove, and their maintenance."""

from engine.db import hosts
from engine.db.hosts import Host
from engine.host_view import HostView
from engine.rest import places
from engine.rest.api import Api
from engine.rest.element import Element, Many, link, named
from engine.rest.operation import Answer, Call, Listed, Operation
from engine.rest.reading import host_at, path_id
from engine.rest.schema import (
    ACTION_IN,
    ACTIONS,
    ID,
    NAME_IN,
    REFERENCE,
    TEXT,
    Schema,
    fields,
    many,
)
from engine.rest.search import parsed
from protocol.errors import BadParameter, NoSuchObject

SEARCH = ("id", "name", "status")
DOWN = "down"


def host_element(row: Host, view: HostView | None, joining: str = "") -> Element:
    """view: None: the fleet does not have it, it was just added or removed. joining: why it has not
    joined the domains that it should."""
    href = f"{places.HOSTS}/{row.id}"
    told = view.capabilities if view is not None else None
    problems = (view.problem if view is not None else "", joining)
    actions = tuple(link(name, f"{href}/{name}") for name in ("activate", "deactivate"))
    version = None if told is None else Element("version", fields={"full_version": told.version})
    return Element(
        "host",
        row.id,
        href,
        {
            "actions": Element("actions", fields={"link": actions}),
            "name": row.name,
            "address": row.url,
            "status": DOWN if view is None else str(view.state),
            "status_detail": "; ".join(filter(None, problems)) or None,
            "cluster": named("cluster", places.CLUSTER, places.CLUSTERS),
            "hardware_information": None
            if row.hardware_id is None
            else Element("hardware_information", fields={"uuid": row.hardware_id}),
            "version": version,
        },
    )


def _element(api: Api, row: Host) -> Element:
    try:
        view = api.fleet.view(row.id)
    except NoSuchObject:
        return host_element(row, None)
    joining = api.joining.problem(row.id) if api.joining is not None and view.up else ""
    return host_element(row, view, joining)


async def list_hosts(api: Api, call: Call) -> Answer:
    search, most = parsed(call.query.get("search"), SEARCH), call.query.max
    told = []
    for row in await api.database.read(hosts.all_hosts):
        element = _element(api, row)
        found = {"id": row.id, "name": row.name, "status": element.fields["status"]}
        if all(search[name] in (None, text) for name, text in found.items()):
            told.append(element)
    told = told[(search.page - 1) * most :][:most]
    return Answer(Listed("hosts", Many("host", tuple(told))))


async def get_host(api: Api, call: Call) -> Answer:
    row = await api.database.read(lambda c: host_at(c, call))
    return Answer(_element(api, row))


async def add_host(api: Api, call: Call) -> Answer:
    name, address = call.node.get("name"), call.node.get("address")
    if name is None or address is None:
        raise BadParameter("name" if name is None else "address", "it is missing")
    id = await api.host_admin(call).add(name, address)
    row = await api.database.read(lambda c: hosts.get(c, id))
    return Answer(_element(api, row), 201)


async def remove_host(api: Api, call: Call) -> Answer:
    await api.host_admin(call).remove(path_id(call, "host"))
    return Answer(Element("action", fields={"status": "complete"}))


async def activate(api: Api, call: Call) -> Answer:
    await api.host_admin(call).maintain(path_id(call, "host"), on=False)
    return Answer(Element("action", fields={"status": "complete"}))


async def deactivate(api: Api, call: Call) -> Answer:
    await api.host_admin(call).maintain(path_id(call, "host"), on=True)
    return Answer(Element("action", fields={"status": "complete"}))


_HOST = fields(
    ("id", "href", "name", "status"),
    id=ID,
    href=TEXT,
    actions=ACTIONS,
    name=TEXT,
    address=TEXT,
    status=TEXT,
    status_detail=TEXT,
    cluster=REFERENCE,
    hardware_information=fields((), uuid=TEXT),
    version=fields((), full_version=TEXT),
)
# What is surely one; protocol/address.py reads more. All but a name is as a url has it.
_LABEL = "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
_PORT = ":[1-9][0-9]{0,3}"
_ADDRESS_IN: Schema = {
    "type": "string",
    "pattern": f"^(unix:/[A-Za-z0-9_.-][A-Za-z0-9_/.-]{{0,99}}|tcp://127[.]0[.]0[.]1{_PORT}"
    f"|(tls://)?[a-z]{_LABEL}([.]{_LABEL}){{0,4}}({_PORT})?)$",
}
_DONE = fields((), status=TEXT)
_ONE = f"{places.HOSTS}/{{id}}"

OPERATIONS = (
    Operation(
        "GET",
        places.HOSTS,
        list_hosts,
        "Hosts, by name; `search` by id, name or status.",
        gives=many("host", _HOST),
        query=("search", "max"),
        search=SEARCH,
    ),
    Operation(
        "POST",
        places.HOSTS,
        add_host,
        "Add a host: its name, and the address of its agent: a name or a url.",
        "admin",
        takes=fields(("name", "address"), name=NAME_IN, address=_ADDRESS_IN),
        root="host",
        gives=_HOST,
        status=(201,),
    ),
    Operation("GET", _ONE, get_host, "One host.", gives=_HOST),
    Operation(
        "DELETE",
        _ONE,
        remove_host,
        "Remove a host that is in maintenance and that nothing needs.",
        "admin",
        gives=_DONE,
    ),
    Operation(
        "POST",
        f"{_ONE}/activate",
        activate,
        "End its maintenance.",
        "operator",
        takes=ACTION_IN,
        root="action",
        gives=_DONE,
    ),
    Operation(
        "POST",
        f"{_ONE}/deactivate",
        deactivate,
        "Begin its maintenance: what runs goes on, and nothing new begins.",
        "operator",
        takes=ACTION_IN,
        root="action",
        gives=_DONE,
    ),
)
