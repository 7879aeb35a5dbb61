"""Whatever is sent, the answer is a fault of ours, nothing was done, and the engine goes on."""

import logging
import resource
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trio
import trio.testing

from engine.db import disks
from engine.rest.operation import OURS, OVIRT
from engine.rest.settings import RestSettings
from tests.engine.rest.site import GIB, Site, managed, site
from tests.engine.rest.test_xml import BOMB
from tests.engine.test_names import TRICKS

DISKS, DOMAINS = f"{OVIRT}/disks", f"{OVIRT}/storagedomains"
NOBODY = "00000000-0000-0000-0000-000000000000"
XML = {"content-type": "application/xml", "accept": "application/xml"}
MIB = 1 << 20


@pytest.fixture(scope="module")
def client(served: Site) -> Iterator[httpx.Client]:
    with served.client() as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_fails_inside(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test here is a fault of the engine: no 500, and no error in its log."""
    with caplog.at_level(logging.ERROR):
        yield
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR] == []


def fault(answer: httpx.Response, status: int) -> str:
    """What it says; it must be a fault of that status."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert set(told) == {"reason", "detail"}, told
    return str(told["detail"])


# --- disks that are not there, locked, or cannot be ---------------------------------------------


@pytest.mark.parametrize("id", [NOBODY, "7", "' OR 1=1--", "a" * 3000, "\u00e9"])
def test_an_unknown_disk_is_404(client: httpx.Client, served: Site, id: str) -> None:
    body = {"storage_domain": {"id": served.domain()}}
    where = f"{DISKS}/{quote(id)}"
    assert "no such disk" in fault(client.get(where), 404)
    fault(client.post(f"{where}/copy", json=body), 404)
    fault(client.post(f"{where}/move", json=body), 404)
    fault(client.delete(where), 404)


def test_a_locked_disk_is_409_and_names_the_command(client: httpx.Client, served: Site) -> None:
    disk = served.begin_disk()["id"]
    command = served.read(lambda c: disks.get(c, disk)).locked_by
    body = {"storage_domain": {"name": "array"}, "disk": {"name": "x"}}
    for answer in (
        client.post(f"{DISKS}/{disk}/copy", json=body),
        client.post(f"{DISKS}/{disk}/move", json={"storage_domain": {"id": served.domain("b")}}),
        client.delete(f"{DISKS}/{disk}"),
        client.put(f"{DISKS}/{disk}", json={"provisioned_size": str(9 * GIB)}),
        client.post(f"{OURS}/disks/{disk}/snapshots", json={}),
    ):
        assert answer.status_code == 409, answer.text
        assert f"locked by command {command}" in answer.text
        assert answer.headers["leasehold-code"] == "4402"
    assert client.get(DISKS, params={"search": 'name="x"'}).json() == {}


def test_a_move_to_where_the_disk_is_is_refused(client: httpx.Client, served: Site) -> None:
    disk = served.disk()
    body = {"storage_domain": {"id": served.domain()}}
    assert "already" in fault(client.post(f"{DISKS}/{disk}/move", json=body), 400)
    assert client.get(f"{DISKS}/{disk}").json()["status"] == "ok"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"storage_domain": {}}, 400),
        ({"storage_domain": {"id": NOBODY}}, 404),
        ({"storage_domain": {"id": "' OR 1=1"}}, 404),
        ({"storage_domain": {"name": "nowhere"}}, 404),
        ({"storage_domain": {"name": "../array"}}, 404),
        ({"storage_domain": {"name": "a\0"}}, 400),
        ({"storage_domain": "array"}, 400),
        ({"storage_domain": [{"name": "array"}, {"name": "array"}]}, 400),
        ({"storage_domain": {"name": {"x": 1}}}, 400),
        ({"storage_domain": {"name": "array"}, "disk": {"name": "../x"}}, 400),
        ({"storage_domain": {"name": "array"}, "async": "perhaps"}, 400),
        ({"storage_domain": {"name": "array"}, "limit": "0"}, 400),
        ({"storage_domain": {"name": "array"}, "limit": "-5"}, 400),
    ],
)
def test_a_copy_to_nowhere_is_refused(
    client: httpx.Client, served: Site, body: dict[str, Any], status: int
) -> None:
    disk = served.disk()
    fault(client.post(f"{DISKS}/{disk}/copy", json=body), status)
    assert client.get(f"{DISKS}/{disk}").json()["status"] == "ok"


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"provisioned_size": None},
        {"provisioned_size": "0"},
        {"provisioned_size": "-1"},
        {"provisioned_size": "1e9"},
        {"provisioned_size": "99999999999999999999"},
        {"provisioned_size": "9" * 30},
        {"format": "vmdk"},
        {"format": "cow"},
        {"sparse": "maybe"},
        {"storage_domains": None},
        {"storage_domains": {"storage_domain": []}},
        {"storage_domains": {"storage_domain": [{"name": "array"}, {"name": "array"}]}},
        {"description": "two\nlines"},
    ],
)
def test_a_disk_that_cannot_be_is_not_made(
    client: httpx.Client, served: Site, change: dict[str, Any]
) -> None:
    served.domain()
    body: dict[str, Any] = {
        "name": "never",
        "provisioned_size": str(GIB),
        "storage_domains": {"storage_domain": [{"name": "array"}]},
    }
    fault(client.post(DISKS, json=body | change), 400)
    assert client.get(DISKS, params={"search": "name=never"}).json() == {}


def test_a_disk_does_not_shrink(client: httpx.Client, served: Site) -> None:
    disk = served.disk(size=2 * GIB)
    fault(client.put(f"{DISKS}/{disk}", json={"provisioned_size": str(GIB)}), 400)


# --- names --------------------------------------------------------------------------------------


# A lone surrogate is nothing that a client could send.
@pytest.mark.parametrize("name", [one for one in TRICKS if one != "\ud800"])
def test_tricks_in_names_are_refused_everywhere(
    client: httpx.Client, served: Site, name: str
) -> None:
    served.domain()
    domain = managed(served, "x") | {"name": name}
    options = managed(served, "options")
    options["storage"]["driver_options"]["property"].append({"name": name, "value": "x"})
    disk = {
        "name": name,
        "provisioned_size": str(GIB),
        "storage_domains": {"storage_domain": [{"name": "array"}]},
    }
    for where, body in (
        (DISKS, disk),
        (DOMAINS, domain),
        (DOMAINS, options),
        (f"{OVIRT}/hosts", {"name": name, "address": "unix:/run/x"}),
        (f"{OURS}/users", {"name": name, "password": "long enough", "role": "admin"}),
    ):
        answer = client.post(where, json=body)
        assert answer.status_code == 400, (where, answer.text)
    renamed = client.put(f"{DISKS}/{served.disk()}", json={"name": name})
    assert renamed.status_code == (400 if name else 200)
    for where in (DISKS, DOMAINS, f"{OVIRT}/hosts", f"{OVIRT}/jobs"):
        # It may be a search that finds nothing, or none at all.
        found = client.get(where, params={"search": f'name="{name}"'})
        assert found.status_code in (200, 400), found.text
    client.get(f"{OURS}/users/{quote(name, safe='')}")


@pytest.mark.parametrize(
    "search", ["name='x' or 1=1", "name=x; drop table disks", "1=1", "name=%", 'name="', "\0"]
)
def test_a_search_is_no_sql(client: httpx.Client, served: Site, search: str) -> None:
    served.disk()
    answer = client.get(DISKS, params={"search": search})
    assert answer.status_code == 400 or answer.json() == {}


@pytest.mark.parametrize(
    "query", ["max=x", "max=1&max=2", "max=99999999999999999999999", "search=page%20x", "from=x"]
)
def test_a_query_that_means_nothing_is_refused(client: httpx.Client, query: str) -> None:
    fault(client.get(f"{OVIRT}/events?{query}"), 400)


@pytest.mark.parametrize("mark", ["a b", "x" * 101, "\u00e9", "a\nb", "<x>"])
def test_a_correlation_id_that_cannot_be_is_refused(
    client: httpx.Client, served: Site, mark: str
) -> None:
    where = f"{DISKS}/{served.disk()}"
    fault(client.delete(where, params={"correlation_id": mark}), 400)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://example.com:1",
        "http://example.com",
        "unix:relative",
        "tls://user@example.com",
        "tls://example.com/path",
        "tls://example.com:99999",
        "file:///etc/passwd",
        "host1.example.com",  # TLS without certificates
        "",
    ],
)
def test_an_address_that_leads_nowhere_is_refused(client: httpx.Client, address: str) -> None:
    body = {"name": "never", "address": address}
    fault(client.post(f"{OVIRT}/hosts", json=body), 400)
    assert client.get(f"{OVIRT}/hosts", params={"search": "name=never"}).json() == {}


@pytest.mark.parametrize("path", ["", "relative", "/a/../b", "//x", "/a\nb", "/" + "x" * 2000])
def test_a_data_domain_lies_at_an_absolute_path(client: httpx.Client, path: str) -> None:
    body = {"name": "data", "type": "data", "id": NOBODY, "storage": {"path": path}}
    fault(client.post(DOMAINS, json=body), 400)


# --- bodies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/octet-stream", 415),
        ("application/xml; charset=utf-16", 415),
        ("", 415),
        ("application/xml", 400),  # it is JSON
    ],
)
def test_the_wrong_type_of_body_is_refused(
    client: httpx.Client, served: Site, kind: str, status: int
) -> None:
    body = b'{"storage_domain": {"name": "array"}}'
    where = f"{DISKS}/{served.disk()}/copy"
    fault(client.post(where, content=body, headers={"content-type": kind}), status)


def test_a_packed_body_is_refused(client: httpx.Client) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    fault(client.post(DISKS, content=b"\x1f\x8b", headers=headers), 415)


def test_our_part_takes_json_only(client: httpx.Client) -> None:
    answer = client.post(f"{OURS}/users", content=b"<user/>", headers=XML)
    assert answer.status_code == 406  # and it answers nothing else
    headers = {"content-type": "application/xml"}
    assert client.post(f"{OURS}/users", content=b"<user/>", headers=headers).status_code == 415


def test_another_form_of_answer_is_406(client: httpx.Client) -> None:
    answer = client.get(DISKS, headers={"accept": "text/html"})
    assert answer.status_code == 406
    assert answer.headers["content-type"].startswith("application/xml")


@pytest.mark.parametrize("sized", [True, False], ids=["with a length", "in chunks"])
def test_a_body_of_50_mb_is_413_and_is_not_kept(client: httpx.Client, sized: bool) -> None:
    piece = b"<" * MIB

    def pieces() -> Iterator[bytes]:
        for _ in range(50):
            yield piece

    content: Any = piece * 50 if sized else pieces()
    answer = client.post(DISKS, content=content, headers={"content-type": "application/xml"})
    fault(answer, 413)
    assert client.get(DISKS).status_code == 200


def test_a_length_that_is_a_lie_is_no_help(served: Site) -> None:
    address = httpx.URL(served.url)
    with socket.create_connection((address.host, address.port or 0), timeout=30) as one:
        head = f"POST {DISKS} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        head += f"Authorization: Bearer {served.token()}\r\nContent-Type: application/xml\r\n\r\n"
        one.sendall(head.encode() + b"<disk>" * 100_000)
        assert one.recv(1000).startswith((b"HTTP/1.1 400", b"HTTP/1.1 4"))


def test_a_body_that_never_comes_is_given_up(tmp_path: Path) -> None:
    with site(tmp_path, RestSettings(body_seconds=0.2)) as served:
        address = httpx.URL(served.url)
        with socket.create_connection((address.host, address.port or 0), timeout=30) as one:
            head = f"POST {DISKS} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n"
            head += f"Authorization: Bearer {served.token()}\r\n"
            one.sendall(head.encode() + b"Content-Type: application/xml\r\n\r\n<disk>")
            assert b" 400 " in one.recv(1000).splitlines()[0]


def test_an_entity_bomb_is_refused(client: httpx.Client, served: Site) -> None:
    where = f"{DISKS}/{served.disk()}/copy"
    headers = {"content-type": "application/xml"}
    assert "entity" in fault(client.post(where, content=BOMB, headers=headers), 400)
    stolen = b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><action>&e;</action>'
    answer = client.post(where, content=stolen, headers=headers)
    assert "root:" not in fault(answer, 400)


def test_deep_and_wide_bodies_are_refused(client: httpx.Client) -> None:
    deep = b"<disk>" + b"<a>" * 100_000
    wide = b"<disk>" + b"<a/>" * 100_000 + b"</disk>"
    for body in (deep, wide):
        fault(client.post(DISKS, content=body, headers={"content-type": "application/xml"}), 400)
    for text in (b'{"a":' * 100_000, b'{"a":[' + b"{}," * 100_000 + b"{}]}"):
        fault(client.post(DISKS, content=text, headers={"content-type": "application/json"}), 400)


def test_another_root_is_refused(client: httpx.Client) -> None:
    answer = client.post(DISKS, content=b"<host/>", headers={"content-type": "application/xml"})
    assert "<disk>" in fault(answer, 400)


# --- paths and methods --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/ovirt-engine",
        f"{OVIRT}/vms",
        f"{OVIRT}/disks/",
        f"{OVIRT}//disks",
        "/../../etc/passwd",
        f"{OVIRT}/../../../etc/passwd",
        f"{OURS}/nothing",
        "/ovirt-engine/api/disks%00",
    ],
)
def test_no_such_page_is_404(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_method_that_is_not_there_is_405(client: httpx.Client) -> None:
    for method, path in (("PATCH", DISKS), ("DELETE", DISKS), ("TRACE", OVIRT), ("POST", OVIRT)):
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert "GET" in answer.headers["allow"]


def test_answers_are_not_for_browsers_and_caches(client: httpx.Client) -> None:
    for answer in (client.get(DISKS), client.get("/nothing"), client.get(f"{OURS}/commands")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


# --- crowds -------------------------------------------------------------------------------------


@contextmanager
def many_files() -> Iterator[None]:
    """Room for a thousand connections of which this process has both ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_requests_at_once_are_all_answered(served: Site) -> None:
    disk = served.disk()
    url = httpx.URL(served.url)
    head = f"GET {DISKS}/{disk} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += f"Authorization: Bearer {served.token()}\r\nAccept: application/json\r\n\r\n"
    answers: list[bytes] = []

    async def ask(sent: trio.Event) -> None:
        async with await trio.open_tcp_stream(url.host, url.port or 0) as stream:
            await sent.wait()  # all at once
            await stream.send_all(head.encode())
            answers.append(b"".join([piece async for piece in stream]))

    async def crowd() -> None:
        connected = trio.Event()
        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                for _ in range(1000):
                    nursery.start_soon(ask, connected)
                await trio.testing.wait_all_tasks_blocked(0.05)
                connected.set()

    with many_files():
        trio.run(crowd)
    assert len(answers) == 1000
    assert {answer.split(b"\r\n", 1)[0] for answer in answers} == {b"HTTP/1.1 200 "}
    assert all(f'"id":"{disk}"'.encode() in answer for answer in answers)


def test_fifty_changes_at_once_of_one_disk_begin_one_command(served: Site) -> None:
    disk = served.disk()
    with served.client() as client, ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: client.delete(f"{DISKS}/{disk}"), range(50)))
    assert sorted({answer.status_code for answer in answers}) == [200, 409]
    assert len([1 for answer in answers if answer.status_code == 200]) == 1


def test_who_asks_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    with site(tmp_path, RestSettings(rate=0.5, burst=10)) as served, served.client() as client:
        statuses = [client.get(DISKS) for _ in range(20)]
        last = statuses[-1]
        assert last.status_code == 429
        assert 1 <= int(last.headers["retry-after"]) <= 2
        assert [one.status_code for one in statuses].count(200) <= 10


def test_who_has_no_token_is_limited_too(tmp_path: Path) -> None:
    with site(tmp_path, RestSettings(rate=0.5, burst=10)) as served, served.client(None) as client:
        statuses = [client.get("/nothing").status_code for _ in range(20)]
    assert statuses == [404] * 10 + [429] * 10
