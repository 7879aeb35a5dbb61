"""Storage domains: of data, and of managed block storage with its driver options.

What is sensitive among the options goes in and never comes out.
"""

from engine.db import domains
from engine.db.domains import Domain
from engine.domain_admin import DATA, MANAGED
from engine.managed_storage import Stats
from engine.rest import places
from engine.rest.api import Api
from engine.rest.element import Element, Many, Node, link, named
from engine.rest.operation import Answer, Call, Listed, Operation
from engine.rest.reading import domain_at, host_of, path_id
from engine.rest.schema import (
    FLAG,
    ID,
    ID_OF,
    LINKS,
    NAME_IN,
    NAMED_IN,
    NUMBER,
    REFERENCE,
    TEXT,
    TEXT_IN,
    Schema,
    fields,
    many,
    one_of,
)
from engine.rest.search import parsed
from protocol.errors import BadParameter
from protocol.managed import GIB

SEARCH = ("id", "name", "status", "type", "datacenter")


def domain_element(
    domain: Domain, stats: Stats | None = None, base: str = places.DOMAINS
) -> Element:
    href = f"{base}/{domain.id}"
    return Element(
        "storage_domain",
        domain.id,
        href,
        {
            "link": (link("disks", f"{places.DOMAINS}/{domain.id}/disks"),),
            "name": domain.name,
            "description": domain.description,
            "type": domain.kind,
            "status": domain.state,
            "master": False,
            "data_centers": Many(
                "data_center", (named("data_center", places.CENTER, places.CENTERS),)
            ),
            "storage": _storage(domain),
            **(_space(stats) if stats is not None else {}),
        },
    )


def _storage(domain: Domain) -> Element:
    if domain.kind == DATA:
        return Element("storage", fields={"type": "posixfs", "path": domain.path})
    told = tuple(
        Element("property", fields={"name": name, "value": str(value)})
        for name, value in sorted((domain.options or {}).items())
    )
    return Element("storage", fields={"type": MANAGED, "driver_options": Many("property", told)})


def _space(stats: Stats) -> dict[str, int]:
    """Bytes. Left out: what a driver says in words, such as "infinite"."""
    total, free = stats.total_capacity_gb, stats.free_capacity_gb
    made: dict[str, int] = {}
    if isinstance(free, int | float) and 0 <= free < 1 << 30:
        made["available"] = int(free * GIB)
        if isinstance(total, int | float) and free <= total < 1 << 30:
            made["used"] = int(total * GIB) - made["available"]
    return made


async def list_domains(api: Api, call: Call) -> Answer:
    search = parsed(call.query.get("search"), SEARCH)
    most = call.query.max
    if search["datacenter"] not in (None, places.CENTER_NAME):
        return Answer(Listed("storage_domains", Many("storage_domain")))
    found = await api.database.read(
        lambda c: domains.search(
            c,
            id=search["id"],
            name=search["name"],
            kind=search["type"],
            state=search["status"],
            limit=most,
            offset=(search.page - 1) * most,
        )
    )
    told = tuple(map(domain_element, found))
    return Answer(Listed("storage_domains", Many("storage_domain", told)))


async def get_domain(api: Api, call: Call) -> Answer:
    domain = await api.database.read(lambda c: domain_at(c, call))
    return Answer(domain_element(domain, await _stats(api, domain)))


async def _stats(api: Api, domain: Domain) -> Stats | None:
    """None: it does not tell, or not in time."""
    if domain.kind != MANAGED:
        return None
    return await api.spaces.of(domain.id, api.storage)


async def add_domain(api: Api, call: Call) -> Answer:
    node = call.node
    name, kind = node.get("name"), node.get("type")
    if name is None:
        raise BadParameter("name", "it is missing")
    admin, about = api.domain_admin(call), node.get("description") or ""
    if kind == MANAGED:
        options = _options(node, "driver_options")
        secret = _options(node, "driver_sensitive_options")
        id = await admin.add_managed(name, options, secret, description=about)
    elif kind == DATA:
        host = node.at("host")
        found = None if host is None else await api.database.read(lambda c: host_of(c, host))
        id = await admin.add_data(
            name,
            node.get("storage", "path") or "",
            id=node.get("id"),
            host=found.id if found is not None else None,
            description=about,
        )
    else:
        raise BadParameter("type", f"it is neither {DATA} nor {MANAGED}")
    return Answer(domain_element(await api.database.read(lambda c: domains.get(c, id))), 201)


def _options(node: Node, tag: str) -> dict[str, str]:
    """<driver_options><property><name/><value/></property>..., in the storage or beside it."""
    found = [*node.all("storage", tag, "property"), *node.all(tag, "property")]
    made: dict[str, str] = {}
    for one in found:
        name, value = one.get("name"), one.get("value")
        if name is None or name in made:
            raise BadParameter(tag, "the name of a property is missing, or stands there twice")
        made[name] = value or ""
    return made


async def change_domain(api: Api, call: Call) -> Answer:
    domain = await api.database.read(lambda c: domain_at(c, call))
    node = call.node
    about = node.at("description")
    await api.domain_admin(call).rename(
        domain.id,
        name=node.get("name") or domain.name,
        description=domain.description if about is None else about.text,
    )
    return Answer(domain_element(await api.database.read(lambda c: domain_at(c, call))))


async def remove_domain(api: Api, call: Call) -> Answer:
    await api.domain_admin(call).remove(path_id(call, "storage domain"))
    return Answer(Element("action", fields={"status": "complete"}))


_PROPERTY = fields((), name=TEXT, value=TEXT)
DOMAIN = fields(
    ("id", "href", "name", "type", "status"),
    id=ID,
    href=TEXT,
    link=LINKS,
    name=TEXT,
    description=TEXT,
    type=one_of(DATA, MANAGED),
    status=one_of("active", "maintenance"),
    master=FLAG,
    available=NUMBER,
    used=NUMBER,
    data_centers=many("data_center", REFERENCE),
    storage=fields((), type=TEXT, path=TEXT, driver_options=many("property", _PROPERTY)),
)
_OPTION_IN = fields(
    ("name", "value"),
    name={"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"},
    value=TEXT_IN,
)
_PATH_IN = {"type": "string", "pattern": "^/[A-Za-z0-9_-]{1,40}(/[A-Za-z0-9_-]{1,40}){0,8}$"}
_COMMON_IN = {"name": NAME_IN, "description": TEXT_IN}
_OF_DATA = fields(("path",), type=TEXT_IN, path=_PATH_IN)
_OF_DRIVER = fields(
    (),
    type=TEXT_IN,
    driver_options=many("property", _OPTION_IN),
    driver_sensitive_options=many("property", _OPTION_IN),
)
_NEW: Schema = {
    "anyOf": [
        fields(
            ("name", "type", "id", "storage"),
            **_COMMON_IN,
            type=one_of(DATA),
            id=ID_OF,
            storage=_OF_DATA,
        ),
        fields(
            ("name", "type", "host", "storage"),
            **_COMMON_IN,
            type=one_of(DATA),
            host=NAMED_IN,
            storage=_OF_DATA,
        ),
        fields(("name", "type", "storage"), **_COMMON_IN, type=one_of(MANAGED), storage=_OF_DRIVER),
    ]
}
_ONE = f"{places.DOMAINS}/{{id}}"

OPERATIONS = (
    Operation(
        "GET",
        places.DOMAINS,
        list_domains,
        "Storage domains, by name; `search` by id, name, status or type.",
        gives=many("storage_domain", DOMAIN),
        query=("search", "max"),
        search=SEARCH,
    ),
    Operation(
        "POST",
        places.DOMAINS,
        add_domain,
        "Add a storage domain: one of data that is on storage (its id and path), or a new one there"
        " (host and path); or managed block storage, whose driver is tried first.",
        "admin",
        takes=_NEW,
        root="storage_domain",
        gives=DOMAIN,
        status=(201,),
    ),
    Operation("GET", _ONE, get_domain, "One storage domain, with its space.", gives=DOMAIN),
    Operation(
        "PUT",
        _ONE,
        change_domain,
        "Name it anew.",
        "admin",
        takes=fields((), name=NAME_IN, description=TEXT_IN),
        root="storage_domain",
        gives=DOMAIN,
    ),
    Operation(
        "DELETE",
        _ONE,
        remove_domain,
        "Forget a storage domain without disks; its storage is left as it is.",
        "admin",
        gives=fields((), status=TEXT),
    ),
)
