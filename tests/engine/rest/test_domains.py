"""Storage domains, hosts and webhooks over REST; their secrets go in and never come out."""

import logging
from typing import Any

import pytest
from lxml import etree

from engine.db import audit, domains, webhooks
from engine.db import hosts as host_rows
from engine.host_admin import url_of
from engine.rest.operation import OURS, OVIRT
from tests.engine.rest.site import Site, managed

DOMAINS = f"{OVIRT}/storagedomains"
HOSTS = f"{OVIRT}/hosts"
HOOKS = f"{OURS}/webhooks"
SECRET = "swordfish-4711"
XML = {"accept": "application/xml", "content-type": "application/xml"}


def test_a_secret_option_is_kept_sealed_and_told_nobody(
    served: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), served.client() as client:
        added = client.post(DOMAINS, json=managed(served, "sealed", password=SECRET))
        assert added.status_code == 201, added.text
        id = added.json()["id"]
        said = [added.text]
        for path in (
            DOMAINS,
            f"{DOMAINS}/{id}",
            f"{OVIRT}/datacenters/5c4e0f0a-5d3a-4d4e-9a5e-1ea5e401d000/storagedomains/{id}",
            f"{OVIRT}/events?max=100",
            f"{OURS}/domains/{id}/limits",
        ):
            for accept in ("application/xml", "application/json"):
                said.append(client.get(path, headers={"accept": accept}).text)
        twice = client.post(DOMAINS, json=managed(served, "sealed", password=SECRET))
        assert twice.status_code == 409
        wrong = managed(served, "wrong", password=SECRET)
        wrong["storage"]["driver_options"]["property"][0]["value"] = "nothing"
        refused = client.post(DOMAINS, json=wrong)
        assert refused.status_code == 409
        body = etree.tostring(
            etree.fromstring(f"<storage_domain><name>{SECRET}/</name></storage_domain>")
        )
        broken = client.post(DOMAINS, content=body + b"<", headers=XML)
        assert broken.status_code == 400
        said += [twice.text, refused.text, broken.text, caplog.text]
    assert [text for text in said if SECRET in text] == []
    assert served.read(lambda c: domains.secret(c, id)) == {"password": SECRET}
    for file in served.folder.glob("engine.db*"):
        assert SECRET.encode() not in file.read_bytes()


def test_an_option_is_either_secret_or_not(served: Site) -> None:
    body = managed(served, "both", path="elsewhere")
    with served.client() as client:
        answer = client.post(DOMAINS, json=body)
    assert answer.status_code == 400
    assert "also among the sensitive" in answer.text


def test_a_driver_that_does_not_work_adds_no_domain(served: Site) -> None:
    body = managed(served, "broken")
    body["storage"]["driver_options"]["property"][1]["value"] = "/proc/nowhere"
    with served.client() as client:
        answer = client.post(DOMAINS, json=body)
        assert 400 <= answer.status_code < 500, answer.text
        assert client.get(DOMAINS, params={"search": "name=broken"}).json() == {}


def test_one_domain_tells_its_space(served: Site) -> None:
    with served.client() as client:
        told = client.get(f"{DOMAINS}/{served.domain()}").json()
    assert int(told["available"]) > 0
    assert told["status"] == "active"


def test_a_domain_with_a_disk_stays(served: Site) -> None:
    disk = served.disk(domain="used")
    with served.client() as client:
        answer = client.delete(f"{DOMAINS}/{served.domain('used')}")
        assert answer.status_code == 409
        assert disk in answer.json()["detail"]
        empty = served.domain("empty")
        assert client.delete(f"{DOMAINS}/{empty}").json()["status"] == "complete"
        assert client.get(f"{DOMAINS}/{empty}").status_code == 404


def test_a_domain_in_maintenance_gets_nothing_new(served: Site) -> None:
    domain = served.domain("resting")
    center = f"{OVIRT}/datacenters/5c4e0f0a-5d3a-4d4e-9a5e-1ea5e401d000/storagedomains"
    with served.client() as client:
        assert client.post(f"{center}/{domain}/deactivate", json={}).status_code == 200
        assert client.get(f"{DOMAINS}/{domain}").json()["status"] == "maintenance"
        body = {"name": "x", "provisioned_size": "1", "storage_domain": {"id": domain}}
        refused = client.post(f"{OVIRT}/disks", json=body)
        assert refused.status_code == 409
        attached = client.post(center, json={"id": domain})
        assert (attached.status_code, attached.json()["status"]) == (201, "active")
        assert client.post(f"{center}/{domain}/deactivate").status_code == 200
        assert client.post(f"{center}/{domain}/activate").status_code == 200
        assert client.post(f"{OVIRT}/disks", json=body).status_code == 202
        busy = client.post(f"{center}/{domain}/deactivate")
        assert busy.status_code == 409
        assert "locked" in busy.json()["detail"]


def test_a_name_is_changed_and_limits_are_set(served: Site) -> None:
    domain = served.domain("to-rename")
    with served.client() as client:
        told = client.put(f"{DOMAINS}/{domain}", json={"name": "renamed"}).json()
        assert told["name"] == "renamed"
        taken = client.put(f"{DOMAINS}/{domain}", json={"name": "array"})
        served.domain()
        taken = client.put(f"{DOMAINS}/{domain}", json={"name": "array"})
        assert taken.status_code == 409
        limits = f"{OURS}/domains/{domain}/limits"
        assert client.get(limits).json() == {"copies": None}
        assert client.put(limits, json={"copies": 3}).json() == {"copies": 3}
        assert client.put(limits, json={"copies": 0}).status_code == 400
        assert client.put(limits, json={}).status_code == 400
    assert served.read(lambda c: domains.get(c, domain)).limits == {"copies": 3}


def test_a_data_domain_is_made_by_a_host_or_was_there(served: Site) -> None:
    with served.client() as client:
        host = client.post(HOSTS, json={"name": "maker", "address": "unix:/run/x"}).json()["id"]
        new = {"name": "new-data", "type": "data", "storage": {"type": "posixfs", "path": "/srv/x"}}
        assert client.post(DOMAINS, json=new).status_code == 400  # which host?
        made = client.post(DOMAINS, json=new | {"host": {"name": "maker"}})
        assert made.status_code == 201, made.text
        assert served.fleet.calls == [(host, "StorageDomain.create")]
        there = new | {"name": "old-data", "id": "7c8e2b0e-3e57-4a37-8cf0-0f5d5a2f7a11"}
        told = client.post(DOMAINS, json=there).json()
        assert told["id"] == there["id"]
        assert told["storage"] == {"type": "posixfs", "path": "/srv/x"}
        assert len(served.fleet.calls) == 1
        busy = client.delete(f"{DOMAINS}/{told['id']}")
        assert busy.status_code == 409  # it is active


def test_hosts_come_and_go(served: Site) -> None:
    with served.client() as client:
        body = "<host><name>host-x</name><address>tcp://127.0.0.1:5</address></host>"
        added = client.post(HOSTS, content=body, headers=XML)
        assert added.status_code == 201
        id = etree.fromstring(added.content).get("id")
        again = client.post(HOSTS, content=body, headers=XML)
        assert again.status_code == 409
        assert client.get(HOSTS, params={"search": "name=host-x"}).json()["host"][0]["id"] == id
        used = client.delete(f"{HOSTS}/{id}")
        assert used.status_code == 409
        assert "maintenance" in used.json()["detail"]
        assert client.post(f"{HOSTS}/{id}/deactivate").status_code == 200
        assert client.get(f"{HOSTS}/{id}").json()["status"] == "maintenance"
        found = client.get(HOSTS, params={"search": "status=maintenance"}).json()["host"]
        assert [one["id"] for one in found] == [id]
        assert client.delete(f"{HOSTS}/{id}").status_code == 200
        assert client.get(f"{HOSTS}/{id}").status_code == 404
    assert [one.name for one in served.read(host_rows.all_hosts) if one.id == id] == []
    texts = [one.text for one in served.read(lambda c: audit.search(c, kind="host"))]
    assert f"removed host host-x ({id})" in texts
    assert f"maintenance of host host-x ({id}) began" in texts


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("host1.example.com", "tls://host1.example.com:54321"),
        ("host1.example.com:1234", "tls://host1.example.com:1234"),
        ("::1", "tls://[::1]:54321"),
        ("[::1]:1234", "tls://[::1]:1234"),
        ("10.0.0.1", "tls://10.0.0.1:54321"),
        ("unix:/run/x", "unix:/run/x"),
        ("tcp://127.0.0.1:5", "tcp://127.0.0.1:5"),
    ],
)
def test_an_address_is_a_url_or_is_made_one(address: str, url: str) -> None:
    assert url_of(address) == url


def test_a_webhook_has_a_secret_that_nobody_sees(served: Site) -> None:
    body: dict[str, Any] = {
        "url": "https://hooks.example.com/x",
        "secret": SECRET + SECRET,
        "events": ["command.changed", "disk."],
    }
    with served.client() as client:
        added = client.post(HOOKS, json=body)
        assert added.status_code == 201, added.text
        id = added.json()["id"]
        assert added.json()["signed"] is True
        listed = client.get(HOOKS)
        assert id in listed.text
        events = client.get(f"{OVIRT}/events?max=100")
        assert [one.text for one in (added, listed, events) if SECRET in one.text] == []
        assert served.read(lambda c: webhooks.secret(c, id)) == SECRET + SECRET
        assert client.delete(f"{HOOKS}/{id}").status_code == 200
        assert client.delete(f"{HOOKS}/{id}").status_code == 404
        for change in (
            {"url": "http://hooks.example.com/x"},
            {"url": "https://127.0.0.1/"},
            {"url": "file:///etc/passwd"},
            {"url": "https://user:pw@hooks.example.com/"},
            {"secret": "short"},
            {"events": ["x" * 101]},
            {"events": ["command.ended", "quarantine.added"]},
            {"events": ["job."]},
            {"more": 1},
        ):
            assert client.post(HOOKS, json=body | change).status_code == 400, change
    with served.client("operator") as client:
        assert client.get(HOOKS).status_code == 403
