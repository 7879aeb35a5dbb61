"""Managed volumes on a host with an agent, which does the copy as well."""

from pathlib import Path

import pytest

from tests.cli.hosted import HostCli
from tests.cli.managed_storage import NAME
from tests.cli.run import Ended
from tests.conformance.adapters import TOOLS

pytestmark = [pytest.mark.full, pytest.mark.tools(*TOOLS["file"])]
MIB = 1 << 20


@pytest.fixture
def there(own_agent: HostCli, tmp_path: Path) -> HostCli:
    path = f"path={tmp_path / 'managed'}"
    made = own_agent("managed", "domain", "add", NAME, "--adapter", "file", "--option", path)
    assert made.code == 0, made
    return own_agent


def on_host(there: HostCli, *words: object) -> Ended:
    return there("managed", *words, "--host", there.agent.url, "--json")


def test_a_host_copies_to_what_was_attached_to_it_and_to_nothing_else(
    there: HostCli, tmp_path: Path
) -> None:
    volume = there("managed", "volume", "create", NAME, "--size", "1G", "--json").json["id"]
    source = there.disk(2)
    attached = on_host(there, "attach", NAME, volume)
    assert attached.code == 0, attached
    place = attached.json["path"]
    assert there("managed", "list", "--json").json["volumes"][0]["state"] == "elsewhere"
    words = ("copy", source, place, "--source-format", "raw", "--domain", there.sd)
    copied = there(*words, "--host", there.agent.url, "--json")
    assert copied.code == 0, copied
    assert on_host(there, "detach", NAME, volume).json["detached"] is True
    disk = tmp_path / "managed" / "volumes" / volume / "disk"
    with disk.open("rb") as file:
        assert file.read(2 * MIB) == source.read_bytes()
    assert on_host(there, "list").json == {"volumes": []}
    assert there(*words, "--host", there.agent.url).code != 0


def test_what_a_client_of_the_agent_attached_is_not_detached_by_the_command(
    there: HostCli,
) -> None:
    volume = there("managed", "volume", "create", NAME, "--size", "1G", "--json").json["id"]
    assert on_host(there, "attach", NAME, volume).code == 0
    (there.home / "managed-connections.json").unlink()
    refused = on_host(there, "detach", NAME, volume)
    assert (refused.code, refused.error["code"]) == (6, 4207)
    assert [row["state"] for row in on_host(there, "list").json["volumes"]] == ["attached"]
    assert there("managed", "detach", NAME, volume, "--force").code == 0


def test_a_host_that_is_gone_is_shut_out_by_force(there: HostCli) -> None:
    volume = there("managed", "volume", "create", NAME, "--size", "1G", "--json").json["id"]
    assert on_host(there, "attach", NAME, volume).code == 0
    there.agent.kill()
    assert on_host(there, "detach", NAME, volume).code == 5
    assert there("managed", "volume", "delete", NAME, volume).code == 6
    forced = on_host(there, "detach", NAME, volume, "--force", "--timeout", "1")
    assert forced.code == 0, forced
    assert "still lists it" in forced.err
    assert there("managed", "list", "--json").json["volumes"][0]["state"] == "cut off"
    assert there("managed", "volume", "delete", NAME, volume).code == 0
