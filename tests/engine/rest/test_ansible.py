"""The calls of the Ansible module ovirt_storage_domain, as they were recorded, in their order.

The task: a storage domain of managed block storage, state: present. Recorded from the collection
ovirt.ovirt of Ansible 12.3; here they are restated as plain requests.
"""

import httpx
import pytest
from lxml import etree

from tests.engine.rest.site import PASSWORD, Site

API = "/ovirt-engine/api"
HEADERS = {
    "version": "4",
    "accept": "application/xml",
    "content-type": "application/xml",
    "user-agent": "PythonSDK/4.6.3",
}
BODY = """<storage_domain>
  <host><name>host1</name></host>
  <name>ansible</name>
  <storage>
    <driver_options>
      <property><name>adapter</name><value>file</value></property>
      <property><name>path</name><value>{path}</value></property>
    </driver_options>
    <driver_sensitive_options>
      <property><name>password</name><value>hidden word</value></property>
    </driver_sensitive_options>
    <type>managed_block_storage</type>
  </storage>
  <type>managed_block_storage</type>
</storage_domain>"""


def text(answer: httpx.Response, path: str) -> str:
    found = etree.fromstring(answer.content).findtext(path)
    assert found is not None, answer.text
    return str(found)


@pytest.mark.parametrize("run", ["first", "again"])
def test_the_recorded_calls_are_answered_as_the_module_needs(served: Site, run: str) -> None:
    with httpx.Client(base_url=served.url, headers=HEADERS, trust_env=False) as client:
        token = client.post(
            "/ovirt-engine/sso/oauth/token",
            data={
                "grant_type": "password",
                "scope": "ovirt-app-api",
                "username": "admin@internal",
                "password": PASSWORD,
            },
            headers={"accept": "application/json", "content-type": FORM},
        ).json()
        assert set(token) == {"access_token", "scope", "exp", "token_type"}
        client.headers["authorization"] = f"Bearer {token['access_token']}"
        # Is it there? Asked twice: by the module, and by what it shares with others.
        search = {"search": "name=ansible"}
        answers = [client.get(f"{API}/storagedomains", params=search) for _ in range(2)]
        for found in answers:
            assert found.status_code == 200
            assert found.headers["content-type"].startswith("application/xml")
            assert len(etree.fromstring(found.content)) == (run == "again")
        if run == "again":
            domain = etree.fromstring(answers[-1].content)[0].get("id")
        else:
            body = BODY.format(path=served.folder / "ansible")
            made = client.post(f"{API}/storagedomains", content=body)
            assert made.status_code == 201, made.text
            domain = etree.fromstring(made.content).get("id")
            assert etree.fromstring(made.content).get("href") == f"{API}/storagedomains/{domain}"
        # Until it is settled.
        for _ in range(2):
            got = client.get(f"{API}/storagedomains/{domain}")
            assert text(got, "status") == "active"
        centers = client.get(f"{API}/datacenters", params={"search": 'name="Default"'})
        (center,) = etree.fromstring(centers.content).findall("data_center")
        attached = f"{API}/datacenters/{center.get('id')}/storagedomains"
        one = client.get(f"{attached}/{domain}")
        assert one.status_code == 200
        listed = etree.fromstring(client.get(attached).content)
        assert domain in [element.get("id") for element in listed]
        # The module attaches it when it is not in the data center; here that changes nothing.
        again = client.post(attached, content=f'<storage_domain id="{domain}"/>')
        assert again.status_code == 201, again.text
        assert text(client.get(f"{attached}/{domain}"), "status") == "active"
        form = {"scope": "ovirt-app-api", "token": token["access_token"]}
        over = client.post(
            "/ovirt-engine/services/sso-logout",
            data=form,
            headers={"accept": "application/json", "content-type": FORM},
        )
        assert over.status_code == 200
        assert over.headers["content-type"].startswith("application/json")
        assert client.get(API).status_code == 401


FORM = "application/x-www-form-urlencoded"
