"""The audit log, as oVirt's events."""

from engine.db import audit
from engine.db.audit import Entry
from engine.rest import places
from engine.rest.api import Api
from engine.rest.element import Element, Many, Moment, whole
from engine.rest.operation import Answer, Call, Listed, Operation
from engine.rest.schema import DATE, NUMBER, TEXT, fields, many, one_of
from engine.rest.search import parsed
from protocol.errors import BadParameter, NoSuchObject

SEVERITIES = ("normal", "warning", "error", "alert")
SEARCH = ("severity", "correlation_id")


def event_element(row: Entry) -> Element:
    return Element(
        "event",
        str(row.id),
        f"{places.EVENTS}/{row.id}",
        {
            "code": row.code,
            "correlation_id": row.correlation or None,
            "description": row.text,
            "origin": "leasehold",
            "severity": row.severity,
            "time": Moment(row.at),
            "user": Element("user", fields={"user_name": row.user}),
        },
    )


async def list_events(api: Api, call: Call) -> Answer:
    """The last ones first; with `from` those that came after that one."""
    search, most = parsed(call.query.get("search"), SEARCH), call.query.max
    found = await api.database.read(
        lambda c: audit.search(
            c,
            after=call.query.number("from"),
            severity=search["severity"],
            correlation=search["correlation_id"],
            limit=most,
            offset=(search.page - 1) * most,
        )
    )
    return Answer(Listed("events", Many("event", tuple(map(event_element, found)))))


async def get_event(api: Api, call: Call) -> Answer:
    text = call.path["id"]
    try:
        id = whole("id", text)
    except BadParameter:
        raise NoSuchObject("event", text[:255]) from None
    return Answer(event_element(await api.database.read(lambda c: audit.get(c, id))))


_EVENT = fields(
    ("id", "href", "code", "description", "severity", "time"),
    id=NUMBER,
    href=TEXT,
    code=NUMBER,
    correlation_id=TEXT,
    description=TEXT,
    origin=TEXT,
    severity=one_of(*SEVERITIES),
    time=DATE,
    user=fields((), user_name=TEXT),
)

OPERATIONS = (
    Operation(
        "GET",
        places.EVENTS,
        list_events,
        "What happened, the last first; `from` an event on, `search` by severity, correlation_id.",
        gives=many("event", _EVENT),
        query=("search", "max", "from"),
        search=SEARCH,
    ),
    Operation("GET", f"{places.EVENTS}/{{id}}", get_event, "One event.", gives=_EVENT),
)
