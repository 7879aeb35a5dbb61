"""What others have attached, and other hosts, other users and other domains: it is left alone."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.managed_storage import NAME, ManagedCli, Storage, Vendor, storage, vendor
from tests.cli.run import until
from tests.conformance.adapters import TOOLS
from tests.servers import users

pytestmark = pytest.mark.tools(*TOOLS["file"])

OTHER = "array2"
NOTES = "managed-connections.json"


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Storage]:
    with storage("file", tmp_path) as made:
        yield made
        assert made.processes() == []


def stranger(files: Storage) -> ManagedCli:
    """Another user of this host, who knows the domain."""
    cli = ManagedCli(files.cli.home.with_name("stranger"))
    cli.home.mkdir()
    (cli.home / "managed.toml").write_bytes((files.cli.home / "managed.toml").read_bytes())
    return cli


def adapter(files: Storage, command: str, *words: str) -> None:
    """A command of the adapter, by hand."""
    program = Path(sys.executable).with_name("file-adapter")
    driver = json.dumps({"adapter": "file", "path": str(files.folder)})
    argv = [str(program), command, driver, "-", "by-hand", *words]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)


@pytest.mark.full
def test_a_failed_attach_spares_what_was_connected_before(files: Storage) -> None:
    volume = files.volume()
    files.attach(volume)
    [host] = files.hosts(volume)
    broken = files.cli.home.with_name("broken")
    broken.mkdir()
    helper = broken / "managedvolume-helper-file"
    helper.write_text('#!/bin/sh\ncat >/dev/null; [ "$1" != attach ] && echo "{}"\n')
    helper.chmod(0o755)
    other = stranger(files)
    told = other.told(LEASEHOLD_MANAGED_HELPERS=str(broken))
    assert told.managed("attach", NAME, volume).code == 1
    assert other.done("list") == {"volumes": []}
    assert files.hosts(volume) == [host]
    assert [row["state"] for row in files.cli.done("list")["volumes"]] == ["attached"]
    files.cli.done("detach", NAME, volume)
    files.nothing_is_attached(volume)


@pytest.mark.full
def test_a_host_that_has_another_name_now_detaches_first(files: Storage) -> None:
    """Under its old name it would stay connected for ever."""
    volume = files.volume()
    killed = files.cli.told(LEASEHOLD_DIE_AT="managed-attach:connected")
    assert killed.managed("attach", NAME, volume).code == -signal.SIGKILL
    [host] = files.hosts(volume)
    adapter(files, "disconnect_volume", volume)
    adapter(files, "connect_volume", volume, json.dumps({"host": "old-name"}))
    notes = files.cli.home / NOTES
    notes.write_text(notes.read_text().replace(f'"{host}"', '"old-name"'))
    refused = files.cli.managed("attach", NAME, volume)
    assert (refused.code, "old-name: detach it first" in refused.err) == (6, True), refused
    assert files.hosts(volume) == ["old-name"]
    files.cli.done("detach", NAME, volume)
    files.nothing_is_attached(volume)


@pytest.mark.full
def test_a_volume_with_the_id_of_one_that_is_half_attached_leaves_that_alone(
    files: Storage,
) -> None:
    """The host knows volumes by their ids, and two domains may have one each."""
    volume = files.volume()
    killed = files.cli.told(LEASEHOLD_DIE_AT="attach:row").managed("attach", NAME, volume)
    assert killed.code == -signal.SIGKILL
    place = f"path={files.folder.with_name('more disks')}"
    files.cli.done("domain", "add", OTHER, "--adapter", "file", "--option", place)
    files.cli.done("volume", "create", OTHER, "--id", volume, "--size", "1G")
    refused = files.cli.managed("attach", OTHER, volume, "--json")
    assert (refused.code, refused.error["code"]) == (6, 929), refused
    assert files.cli.done("volume", "info", OTHER, volume)["hosts"] == []
    [row] = files.cli.done("list")["volumes"]
    assert (row["domain"], row["state"]) == (NAME, "incomplete")
    assert len(files.hosts(volume)) == 1
    files.cli.done("detach", NAME, volume)
    files.nothing_is_attached(volume)


def test_a_volume_that_is_gone_from_the_storage_can_be_detached(files: Storage) -> None:
    volume = files.volume()
    files.attach(volume)
    adapter(files, "disconnect_volume", volume)
    adapter(files, "delete_volume", volume)
    ended = files.cli.managed("detach", NAME, volume, "--json")
    assert (ended.code, ended.json["detached"]) == (0, True), ended
    assert "no such volume any more" in ended.err
    assert files.cli.done("list") == {"volumes": []}


def test_what_is_attached_here_is_not_deleted_whatever_the_storage_says(files: Storage) -> None:
    """The adapter of a vendor may have shut the host out, or not look."""
    volume = files.volume()
    files.attach(volume)
    adapter(files, "disconnect_volume", volume)
    refused = files.cli.managed("volume", "delete", NAME, volume)
    assert (refused.code, "attached to this host: detach it first" in refused.err) == (6, True)
    assert files.cli.done("volume", "list", NAME) == {"volumes": [volume]}
    files.cli.done("detach", NAME, volume)


def test_a_server_that_died_is_told_and_its_volume_can_be_detached(files: Storage) -> None:
    volume = files.volume()
    files.attach(volume)
    for pid in users(volume):
        os.kill(pid, signal.SIGKILL)
    until(lambda: files.processes() == [])
    [row] = files.cli.done("list")["volumes"]
    assert row["state"] == "gone"
    files.cli.done("detach", NAME, volume)
    files.nothing_is_attached(volume)


def test_who_only_looks_makes_nothing(tmp_path: Path) -> None:
    cli = ManagedCli(tmp_path / "home")
    assert cli.done("list") == {"volumes": []}
    assert cli.done("domain", "list") == {"domains": []}
    assert not cli.home.exists() or list(cli.home.iterdir()) == []


@pytest.fixture
def array(tmp_path: Path) -> Iterator[Vendor]:
    with vendor(tmp_path) as made:
        yield made


def test_what_the_adapter_of_a_vendor_cannot_do_is_refused(array: Vendor) -> None:
    volume = array.cli.done("volume", "create", NAME, "--size", "1G")["id"]
    array.cli.done("attach", NAME, volume)
    before = len(array.calls)
    for words in (
        ("detach", NAME, volume, "--force", "--only", "host1"),
        ("snapshot", "create", NAME, volume, "--id", volume),
        ("snapshot", "to-volume", NAME, volume, "s1", "--id", volume),
        ("snapshot", "list", NAME, volume),
        ("volume", "list", NAME),
        ("volume", "info", NAME, volume),
    ):
        refused = array.cli.managed(*words, "--json")
        assert (refused.code, refused.error["code"]) == (6, 2009), refused
    assert array.calls[before:] == []
    assert len(array.connected()) == 1
    forced = array.cli.done("detach", NAME, volume, "--force")
    assert array.connected() == []
    assert len(forced["disconnected"]) == 1
    array.cli.done("detach", NAME, volume)
    assert array.cli.done("list") == {"volumes": []}
