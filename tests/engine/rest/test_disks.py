"""Disks, copies and moves over REST, as curl would ask, in XML and in JSON."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import httpx
import pytest
from lxml import etree

from engine.db import commands, disks
from engine.rest.operation import OVIRT
from tests.engine.rest.site import GIB, PATIENCE, Site, end_command, site
from tests.postgres import Postgres

DISKS = f"{OVIRT}/disks"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """On both databases."""
    url = None
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres_server")
        url = server.new_database()
    with site(tmp_path_factory.mktemp("engine"), url=url) as made:
        yield made


XML = {"accept": "application/xml", "content-type": "application/xml"}


def test_a_disk_in_xml_is_the_disk_in_json(served: Site) -> None:
    disk = served.disk("both-forms")
    with served.client() as client:
        told = client.get(f"{DISKS}/{disk}").json()
        root = etree.fromstring(client.get(f"{DISKS}/{disk}", headers=XML).content)
    assert root.tag == "disk"
    assert (root.get("id"), root.get("href")) == (told["id"], told["href"])
    scalars = {name: value for name, value in told.items() if isinstance(value, str)}
    assert len(scalars) > 8
    for name, value in scalars.items():
        assert value == (root.get(name) or root.findtext(name) or ""), name
    domain = root.find("storage_domains/storage_domain")
    assert domain is not None
    assert told["storage_domains"]["storage_domain"][0]["id"] == domain.get("id")


@pytest.mark.parametrize("place", ["", "element"])
def test_a_disk_is_added_in_xml(served: Site, place: str) -> None:
    domain = served.domain()
    reference = (
        f'<storage_domain id="{domain}"/>'
        if not place
        else "<storage_domain><name>array</name></storage_domain>"
    )
    body = (
        f"<disk><alias>in-xml{place}</alias><description>of a test</description>"
        f"<format>raw</format>"
        f"<provisioned_size>{GIB + 1}</provisioned_size>"
        f"<storage_domains>{reference}</storage_domains></disk>"
    )
    with served.client() as client:
        answer = client.post(DISKS, content=body, headers=XML)
    root = etree.fromstring(answer.content)
    assert answer.status_code == 202
    assert root.findtext("name") == f"in-xml{place}"
    assert root.findtext("provisioned_size") == str(2 * GIB)  # whole GiB
    assert root.findtext("status") == "locked"


def test_a_copy_is_pending_with_its_disk_and_its_job(served: Site) -> None:
    disk, domain = served.disk(), served.domain("copies")
    body = f'<action><disk><name>the-copy</name></disk><storage_domain id="{domain}"/></action>'
    with served.client() as client:
        answer = client.post(f"{DISKS}/{disk}/copy", content=body, headers=XML)
        root = etree.fromstring(answer.content)
        assert (answer.status_code, root.findtext("status")) == (202, "pending")
        target, job = root.find("disk"), root.find("job")
        assert target is not None
        assert job is not None
        told = client.get(str(target.get("href"))).json()
        assert (told["name"], told["status"]) == ("the-copy", "locked")
        assert told["storage_domains"]["storage_domain"][0]["id"] == domain
        assert client.get(str(job.get("href"))).json()["status"] == "started"
        assert client.get(f"{DISKS}/{disk}").json()["status"] == "locked"


def test_the_same_correlation_id_copies_once(served: Site) -> None:
    disk, domain = served.disk(), served.domain()
    where, mark = f"{DISKS}/{disk}/copy", {"correlation_id": f"once-{disk}"}
    in_json = {"storage_domain": {"id": domain}, "disk": {"name": "once"}}
    in_xml = (
        "<action><storage_domain><name>array</name></storage_domain>"
        "<disk><name>once</name></disk></action>"
    )
    with served.client() as client:
        first = client.post(where, json=in_json, params=mark).json()
        for answer in (
            client.post(where, json=in_json, params=mark),
            client.post(where, json=in_json, headers={"correlation-id": mark["correlation_id"]}),
        ):
            assert answer.json() == first
        root = etree.fromstring(
            client.post(where, content=in_xml, params=mark, headers=XML).content
        )
        assert root.get("id") == first["id"]
        other = client.post(where, json=in_json | {"disk": {"name": "other"}}, params=mark)
        assert other.status_code == 400
        assert first["id"] in other.json()["detail"]
        assert len(client.get(DISKS, params={"search": "name=once"}).json()["disk"]) == 1
    with served.client("operator") as another:  # has correlation ids of their own
        assert another.post(where, json=in_json, params=mark).status_code == 409


def test_two_at_once_with_one_correlation_id_are_one_copy(served: Site) -> None:
    disk, domain = served.disk(), served.domain()
    body = {"storage_domain": {"id": domain}, "disk": {"name": f"twice-{disk}"}}
    mark = {"correlation_id": f"twice-{disk}"}
    with served.client() as client, ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(
                lambda _: client.post(f"{DISKS}/{disk}/copy", json=body, params=mark), range(20)
            )
        )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1


def _waiting(served: Site, disk: str, state: str, **error: object) -> httpx.Response:
    """A copy with async=false, while its command ends."""
    mark = f"wait-{disk}"
    found: list[httpx.Response] = []

    def ask() -> None:
        with served.client() as client:
            body = {"storage_domain": {"name": "array"}, "async": "false"}
            found.append(
                client.post(f"{DISKS}/{disk}/copy", json=body, params={"correlation_id": mark})
            )

    thread = Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not (rows := served.read(lambda c: commands.correlated(c, "admin", mark))):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    served.write(lambda c: end_command(c, rows[0].id, state, error or None))  # type: ignore[arg-type]
    thread.join()
    return found[0]


def test_who_waits_hears_the_end_of_a_copy(served: Site) -> None:
    answer = _waiting(served, served.disk(), "succeeded")
    assert (answer.status_code, answer.json()["status"]) == (200, "complete")


def test_who_waits_hears_why_a_copy_failed(served: Site) -> None:
    error = {"code": 4405, "kind": "NoRoom", "message": "storage domain x has no room", "data": {}}
    answer = _waiting(served, served.disk(), "failed", **error)
    assert answer.status_code == 409
    assert answer.json()["detail"] == "storage domain x has no room"
    assert answer.headers["leasehold-code"] == "4405"


def test_a_name_is_changed_at_once_and_a_size_by_a_command(served: Site) -> None:
    disk = served.disk("old-name")
    with served.client() as client:
        told = client.put(
            f"{DISKS}/{disk}", json={"name": "new-name", "description": "100% <new>"}
        ).json()
        assert (told["name"], told["description"], told["status"]) == (
            "new-name",
            "100% <new>",
            "ok",
        )
        larger = client.put(f"{DISKS}/{disk}", json={"provisioned_size": str(3 * GIB)})
        assert larger.json()["status"] == "locked"
        events = client.get(f"{OVIRT}/events", params={"max": "50"}).json()["event"]
    assert any("new-name" in one["description"] for one in events)
    (command,) = served.read(lambda c: commands.search(c, type="extend_disk", limit=1))
    assert command.spec == {"disk": disk, "size": 3 * GIB}


def test_lists_have_pages(served: Site) -> None:
    made = [served.disk("paged") for _ in range(5)]
    with served.client() as client:
        found = []
        for page in (1, 2, 3):
            query = {"search": f"name=paged page {page}", "max": "2"}
            found.append([one["id"] for one in client.get(DISKS, params=query).json()["disk"]])
        assert [len(one) for one in found] == [2, 2, 1]
        assert sorted(id for page in found for id in page) == sorted(made)
        past = {"search": "name=paged page 9", "max": "2"}
        assert client.get(DISKS, params=past).json() == {}
        assert len(client.get(DISKS, params={"search": "name=pag*"}).json()["disk"]) == 5
        assert client.get(DISKS, params={"search": "name=paged", "max": "-1"}).status_code == 200


def test_the_disks_of_one_domain_are_those_in_it(served: Site) -> None:
    one, other = served.disk(domain="first"), served.disk(domain="second")
    with served.client() as client:
        where = f"{OVIRT}/storagedomains/{served.domain('first')}/disks"
        assert [found["id"] for found in client.get(where).json()["disk"]] == [one]
        body = {"name": "in-first", "provisioned_size": str(GIB)}
        added = client.post(where, json=body).json()
        assert added["storage_domains"]["storage_domain"][0]["id"] == served.domain("first")
    assert served.read(lambda c: disks.get(c, other)).domain == served.domain("second")


def test_removing_is_a_command_too(served: Site) -> None:
    disk = served.disk()
    with served.client() as client:
        answer = client.delete(f"{DISKS}/{disk}")
        assert answer.status_code == 200  # oVirt's SDK takes no other
        assert answer.json()["status"] == "pending"
        assert client.get(answer.json()["job"]["href"]).json()["description"] != ""
        assert client.get(f"{DISKS}/{disk}").json()["status"] == "locked"
