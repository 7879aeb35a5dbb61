"""Managed volumes on a host with an agent, which does the copy as well."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.hosted import HostCli
from tests.cli.managed_storage import NAME, reaped
from tests.cli.run import Ended
from tests.conformance.adapters import TOOLS

pytestmark = pytest.mark.tools(*TOOLS["file"])
MIB = 1 << 20


@pytest.fixture
def there(own_agent: HostCli, tmp_path: Path) -> Iterator[HostCli]:
    place = tmp_path / "managed"
    words = ("--adapter", "file", "--option", f"path={place}")
    made = own_agent("managed", "domain", "add", NAME, *words)
    assert made.code == 0, made
    with reaped(place):
        yield own_agent


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


def test_what_a_client_of_the_agent_attached_is_not_connected_by_the_command(
    there: HostCli, tmp_path: Path
) -> None:
    volume = there("managed", "volume", "create", NAME, "--size", "1G", "--json").json["id"]
    assert on_host(there, "attach", NAME, volume).code == 0
    (there.home / "managed-connections.json").unlink()
    adapter(tmp_path, "disconnect_volume", volume)
    refused = on_host(there, "attach", NAME, volume)
    assert (refused.code, refused.error["code"]) == (6, 927)
    assert hosts(there, volume) == []


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


@pytest.mark.full
def test_two_who_have_it_attached_on_one_machine_keep_it_until_the_last_detaches(
    there: HostCli,
) -> None:
    """The agent and the command without one are one host to the storage."""
    volume = there("managed", "volume", "create", NAME, "--size", "1G", "--json").json["id"]
    assert on_host(there, "attach", NAME, volume).code == 0
    here = there("managed", "attach", NAME, volume, "--json")
    assert here.code == 0, here
    for words in (("detach", NAME, volume), ("attach", NAME, volume), ("detach", NAME, volume)):
        ended = there("managed", *words)
        assert ended.code == 0, ended
        assert ("stays connected" in ended.err) == (words[0] == "detach"), ended
        assert [row["state"] for row in on_host(there, "list").json["volumes"]] == ["attached"]
    assert len(hosts(there, volume)) == 1
    assert on_host(there, "detach", NAME, volume).json["detached"] is True
    assert hosts(there, volume) == []


def test_a_host_is_shut_out_by_its_address_and_the_others_stay(
    there: HostCli, tmp_path: Path
) -> None:
    volume = there("managed", "volume", "create", NAME, "--size", "1G", "--json").json["id"]
    unknown = on_host(there, "detach", NAME, volume, "--force")
    assert (unknown.code, "--only" in unknown.error["message"]) == (2, True), unknown
    assert on_host(there, "attach", NAME, volume).code == 0
    [host] = hosts(there, volume)
    adapter(tmp_path, "connect_volume", volume, json.dumps({"host": "other"}))
    assert on_host(there, "detach", NAME, volume, "--force").json["disconnected"] == [host]
    assert hosts(there, volume) == ["other"]
    every = there("managed", "detach", NAME, volume, "--force", "--json")
    assert every.json["disconnected"] == ["other"]
    assert hosts(there, volume) == []


def adapter(folder: Path, command: str, *words: str) -> None:
    """A command of the adapter, by hand."""
    program = Path(sys.executable).with_name("file-adapter")
    driver = json.dumps({"adapter": "file", "path": str(folder / "managed")})
    argv = [str(program), command, driver, "-", "by-hand", *words]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)


def hosts(there: HostCli, volume: str) -> list[str]:
    """That the storage has it connected for."""
    told = there("managed", "volume", "info", NAME, volume, "--json")
    found: list[str] = told.json["hosts"]
    return found
