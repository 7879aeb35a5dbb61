"""The root of oVirt's API: who we are, and where the rest is. Clients test with it."""

from importlib.metadata import version

from engine.db import disks, domains, hosts
from engine.rest import places
from engine.rest.api import Api
from engine.rest.element import Element, Moment, link
from engine.rest.operation import OVIRT, Answer, Call, Operation
from engine.rest.schema import DATE, LINKS, NUMBER, TEXT, fields

# Of oVirt's API, as its clients compare it: what is served is a part of that of 4.5.
MAJOR, MINOR = 4, 5
LINKS_OF = {
    "disks": places.DISKS,
    "storagedomains": places.DOMAINS,
    "datacenters": places.CENTERS,
    "clusters": places.CLUSTERS,
    "hosts": places.HOSTS,
    "jobs": places.JOBS,
    "events": places.EVENTS,
}


async def get_api(api: Api, call: Call) -> Answer:
    count = await api.database.read(
        lambda c: (len(hosts.all_hosts(c)), len(domains.all_domains(c)), disks.count(c))
    )
    own = version("leasehold")
    product = Element(
        "product_info",
        fields={
            "name": "leasehold",
            "vendor": "leasehold",
            "version": Element(
                "version",
                fields={
                    "major": MAJOR,
                    "minor": MINOR,
                    "build": 0,
                    "revision": 0,
                    "full_version": f"{MAJOR}.{MINOR}.0-leasehold-{own}",
                },
            ),
        },
    )
    summary = Element(
        "summary",
        fields={
            "hosts": Element("hosts", fields={"total": count[0]}),
            "storage_domains": Element("storage_domains", fields={"total": count[1]}),
        },
    )
    return Answer(
        Element(
            "api",
            fields={
                "link": tuple(link(rel, href) for rel, href in LINKS_OF.items()),
                "product_info": product,
                "summary": summary,
                "time": Moment(api.clock()),
            },
        )
    )


_VERSION = fields((), major=NUMBER, minor=NUMBER, build=NUMBER, revision=NUMBER, full_version=TEXT)
_TOTAL = fields((), total=NUMBER)
OPERATIONS = (
    Operation(
        "GET",
        OVIRT,
        get_api,
        "Who this is; also the test of a connection.",
        gives=fields(
            ("product_info",),
            link=LINKS,
            product_info=fields((), name=TEXT, vendor=TEXT, version=_VERSION),
            summary=fields((), hosts=_TOTAL, storage_domains=_TOTAL),
            time=DATE,
        ),
    ),
)
