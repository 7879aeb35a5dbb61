"""The one data center, "Default", and the storage domains in it.

oVirt's clients attach a domain to a data center before they use it. Here a domain is in it from the
beginning: attaching again changes nothing, activate and deactivate are maintenance.
"""

from engine.db import domains
from engine.rest import places
from engine.rest.api import Api
from engine.rest.element import Element, Many, link, named
from engine.rest.operation import Answer, Call, Listed, Operation
from engine.rest.reading import domain_at, domain_of, path_id
from engine.rest.resources.storagedomains import DOMAIN, domain_element
from engine.rest.schema import ACTION_IN, FLAG, ID, LINKS, NAMED_IN, REFERENCE, TEXT, fields, many
from engine.rest.search import parsed
from protocol.errors import NoSuchObject

SEARCH = ("id", "name")
HREF = f"{places.CENTERS}/{places.CENTER}"


def _center() -> Element:
    return Element(
        "data_center",
        places.CENTER,
        HREF,
        {
            "link": (link("storagedomains", f"{HREF}/storagedomains"),),
            "name": places.CENTER_NAME,
            "local": False,
            "status": "up",
        },
    )


def _cluster() -> Element:
    center = named("data_center", places.CENTER, places.CENTERS)
    return Element(
        "cluster",
        places.CLUSTER,
        f"{places.CLUSTERS}/{places.CLUSTER}",
        {"name": places.CENTER_NAME, "data_center": center},
    )


def _matching(call: Call, element: Element) -> tuple[Element, ...]:
    search = parsed(call.query.get("search"), SEARCH)
    wanted = search["name"] in (None, places.CENTER_NAME) and search["id"] in (None, element.id)
    return (element,) if wanted and search.page == 1 else ()


async def list_centers(api: Api, call: Call) -> Answer:
    return Answer(Listed("data_centers", Many("data_center", _matching(call, _center()))))


async def get_center(api: Api, call: Call) -> Answer:
    _check(call)
    return Answer(_center())


async def list_clusters(api: Api, call: Call) -> Answer:
    return Answer(Listed("clusters", Many("cluster", _matching(call, _cluster()))))


async def get_cluster(api: Api, call: Call) -> Answer:
    if call.path["id"] != places.CLUSTER:
        raise NoSuchObject("cluster", call.path["id"][:255])
    return Answer(_cluster())


def _check(call: Call) -> None:
    if call.path["center"] != places.CENTER:
        raise NoSuchObject("data center", call.path["center"][:255])


async def list_attached(api: Api, call: Call) -> Answer:
    _check(call)
    found = await api.database.read(domains.all_domains)
    told = tuple(domain_element(one, base=_BASE) for one in found[: call.query.max])
    return Answer(Listed("storage_domains", Many("storage_domain", told)))


async def get_attached(api: Api, call: Call) -> Answer:
    _check(call)
    return Answer(domain_element(await api.database.read(lambda c: domain_at(c, call)), base=_BASE))


async def attach(api: Api, call: Call) -> Answer:
    """One that is in maintenance is active then, as in oVirt."""
    _check(call)
    domain = await api.database.read(lambda c: domain_of(c, call.node))
    await api.domain_admin(call).activate(domain.id)
    found = await api.database.read(lambda c: domains.get(c, domain.id))
    return Answer(domain_element(found, base=_BASE), 201)


async def activate(api: Api, call: Call) -> Answer:
    _check(call)
    await api.domain_admin(call).activate(path_id(call, "storage domain"))
    return _COMPLETE


async def deactivate(api: Api, call: Call) -> Answer:
    _check(call)
    await api.domain_admin(call).deactivate(path_id(call, "storage domain"))
    return _COMPLETE


_BASE = f"{HREF}/storagedomains"
_COMPLETE = Answer(Element("action", fields={"status": "complete"}))
_DONE = fields((), status=TEXT)
_CENTER = fields(
    ("id", "href", "name"), id=ID, href=TEXT, link=LINKS, name=TEXT, local=FLAG, status=TEXT
)
_CLUSTER = fields(("id", "href", "name"), id=ID, href=TEXT, name=TEXT, data_center=REFERENCE)
_ONE = f"{places.CENTERS}/{{center}}"
_DOMAINS = f"{_ONE}/storagedomains"

OPERATIONS = (
    Operation(
        "GET",
        places.CENTERS,
        list_centers,
        "The one data center.",
        gives=many("data_center", _CENTER),
        query=("search",),
        search=SEARCH,
    ),
    Operation("GET", _ONE, get_center, "The data center.", gives=_CENTER),
    Operation(
        "GET",
        places.CLUSTERS,
        list_clusters,
        "The one cluster, for clients that ask.",
        gives=many("cluster", _CLUSTER),
        query=("search",),
        search=SEARCH,
    ),
    Operation("GET", f"{places.CLUSTERS}/{{id}}", get_cluster, "The cluster.", gives=_CLUSTER),
    Operation(
        "GET",
        _DOMAINS,
        list_attached,
        "The storage domains of the data center: all.",
        gives=many("storage_domain", DOMAIN),
        query=("max",),
    ),
    Operation(
        "POST",
        _DOMAINS,
        attach,
        "Attach a storage domain: it is active then.",
        "admin",
        takes=NAMED_IN,
        root="storage_domain",
        gives=DOMAIN,
        status=(201,),
    ),
    Operation("GET", f"{_DOMAINS}/{{id}}", get_attached, "One of them.", gives=DOMAIN),
    Operation(
        "POST",
        f"{_DOMAINS}/{{id}}/activate",
        activate,
        "End its maintenance.",
        "admin",
        takes=ACTION_IN,
        root="action",
        gives=_DONE,
    ),
    Operation(
        "POST",
        f"{_DOMAINS}/{{id}}/deactivate",
        deactivate,
        "Begin its maintenance: nothing new is done with it.",
        "admin",
        takes=ACTION_IN,
        root="action",
        gives=_DONE,
    ),
)
