"""One table over all adapters of ours, each with a real server: what every adapter keeps to."""

import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from engine.managed_storage import ManagedStorage
from protocol.errors import (
    AdapterStalled,
    BadParameter,
    Error,
    ManagedVolumeExists,
    ManagedVolumeInUse,
    NoSuchManagedSnapshot,
    NoSuchManagedVolume,
)
from protocol.managed import GIB, ConnectionInfo
from tests.conformance.adapters import KINDS, TOOLS, Site, ceph_site, file_site, tgt_site
from tests.servers import MIB, until

A, B, C = "0xaa", "0xbb", "0xcc"
OBSERVED = 0.3  # seconds in which a writer that was cut off would write sixty times


def kinds(*ceph: pytest.MarkDecorator) -> Any:
    """Every kind; with these marks, too, those of Ceph."""
    more = {"ceph": ceph}
    return [
        pytest.param(name, marks=[pytest.mark.tools(*TOOLS[name]), *more.get(name, ())])
        for name in KINDS
    ]


# A command of Ceph takes ten times as long as one of the others.
ceph_if_full = pytest.mark.parametrize("site", kinds(pytest.mark.full), indirect=True)


@pytest.fixture(params=kinds())
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    if request.param == "ceph":
        with ceph_site(tmp_path, request.getfixturevalue("ceph_cluster")) as found:
            yield found
    elif request.param == "file":
        with file_site(tmp_path) as found:
            yield found
            for process in found.processes():
                pytest.fail(f"it is left: {process}")
    else:
        with tgt_site(tmp_path, chap=request.param == "chap") as found:
            yield found


@pytest.fixture
def storage(site: Site) -> ManagedStorage:
    return site.storage


async def connected(site: Site, volume: str, host: str = "host1") -> ConnectionInfo:
    return await site.storage.connect_volume(volume, site.connector(host))


async def written(site: Site, volume: str, *commands: str) -> None:
    """Let a host write, and leave again."""
    info = await connected(site, volume)
    site.write(info, "host1", *commands)
    await site.storage.disconnect_volume(volume)


def nothing_is_left(site: Site) -> None:
    assert {what: found for what, found in site.traces().items() if found} == {}


# --- the life of a volume -------------------------------------------------------------------------


async def test_a_volume_is_made_connected_written_and_removed_without_a_trace(site: Site) -> None:
    storage = site.program()
    volume = site.new_volume()
    assert await storage.create_volume(volume, 1) is True
    info = await storage.connect_volume(volume, site.connector("host1"))
    assert site.size(info, "host1") == GIB
    assert site.look(volume, MIB) == bytes(MIB)
    site.write(info, "host1", f"write -P {A} 0 1M", f"write -P {B} 700M 1M", f"read -P {B} 700M 1M")
    assert site.look(volume, 2 * MIB) == b"\xaa" * MIB + bytes(MIB)
    await storage.disconnect_volume(volume, site.connector("host1"))
    assert (await storage.volume_info(volume)).hosts == []
    await storage.delete_volume(volume)
    nothing_is_left(site)
    assert volume not in await storage.list_volumes()


async def test_what_was_done_already_is_done(site: Site, storage: ManagedStorage) -> None:
    volume, clone, copy = (site.new_volume() for _ in range(3))
    assert await storage.create_volume(volume, 1) is True
    assert await storage.create_volume(volume, 1) is False  # it may hold data: not known to be zero
    first = await connected(site, volume)
    again = await connected(site, volume)
    assert (first.driver_volume_type, first.data) == (again.driver_volume_type, again.data)
    assert (await storage.volume_info(volume)).hosts == ["host1"]
    for connector in (site.connector("host1"), site.connector("host1"), None, None):
        await storage.disconnect_volume(volume, connector)
    for _ in range(2):
        assert await storage.create_snapshot(volume, "snap") == "snap"
        assert await storage.create_volume_from_snapshot(volume, "snap", copy) == copy
        await storage.clone_volume(volume, clone)
        await storage.extend_volume(volume, 2)
    info = await storage.volume_info(volume)
    assert (info.size, info.snapshots) == (2 * GIB, ["snap"])
    await storage.remove_snapshot(volume, "snap")
    for one in (volume, clone, copy):
        await storage.delete_volume(one)
    nothing_is_left(site)


@ceph_if_full
async def test_what_is_not_there_is_an_error(site: Site, storage: ManagedStorage) -> None:
    here, missing = site.new_volume(), site.new_volume()
    host = site.connector("host1")
    await storage.create_volume(here, 1)
    volumes: list[Callable[[], Awaitable[object]]] = [
        lambda: storage.delete_volume(missing),
        lambda: storage.connect_volume(missing, host),
        lambda: storage.disconnect_volume(missing, host),
        lambda: storage.disconnect_volume(missing),
        lambda: storage.extend_volume(missing, 2),
        lambda: storage.save_device(missing, {}),
        lambda: storage.get_connection_info(missing),
        lambda: storage.clone_volume(missing, site.new_volume()),
        lambda: storage.create_snapshot(missing, "s"),
        lambda: storage.remove_snapshot(missing, "s"),
        lambda: storage.create_volume_from_snapshot(missing, "s", site.new_volume()),
        lambda: storage.revert_to_snapshot(missing, "s"),
        lambda: storage.volume_info(missing),
    ]
    for call in volumes:
        with pytest.raises(NoSuchManagedVolume) as caught:
            await call()
        assert caught.value.vol_id == missing
    snapshots: list[Callable[[], Awaitable[object]]] = [
        lambda: storage.remove_snapshot(here, "s"),
        lambda: storage.create_volume_from_snapshot(here, "s", site.new_volume()),
        lambda: storage.revert_to_snapshot(here, "s"),
    ]
    for call in snapshots:
        with pytest.raises(NoSuchManagedSnapshot) as found:
            await call()
        assert (found.value.vol_id, found.value.snapshot_id) == (here, "s")
    assert (await storage.volume_info(here)).size == GIB
    await storage.delete_volume(here)
    nothing_is_left(site)


@ceph_if_full
async def test_what_is_needed_is_not_removed(site: Site, storage: ManagedStorage) -> None:
    volume, other = site.new_volume(), site.new_volume()
    await storage.create_volume(volume, 2)
    await storage.create_volume(other, 1)
    with pytest.raises(ManagedVolumeExists):
        await storage.create_volume(volume, 1)
    with pytest.raises(ManagedVolumeExists):
        await storage.clone_volume(volume, other)
    with pytest.raises(BadParameter):
        await storage.extend_volume(volume, 1)
    await storage.create_snapshot(volume, "snap")
    with pytest.raises(ManagedVolumeInUse, match="snap"):
        await storage.delete_volume(volume)
    info = await connected(site, volume)
    with pytest.raises(ManagedVolumeInUse, match="host1"):
        await storage.revert_to_snapshot(volume, "snap")
    await storage.remove_snapshot(volume, "snap")
    with pytest.raises(ManagedVolumeInUse, match="host1"):
        await storage.delete_volume(volume)
    assert site.opens(info, "host1")
    await storage.disconnect_volume(volume)
    await storage.delete_volume(volume)
    await storage.delete_volume(other)
    nothing_is_left(site)


@ceph_if_full
async def test_the_device_of_each_host_is_kept(site: Site, storage: ManagedStorage) -> None:
    volume = site.new_volume()
    await storage.create_volume(volume, 1)
    with pytest.raises(ManagedVolumeInUse):
        await storage.get_connection_info(volume)
    info = await connected(site, volume)
    await storage.save_device(volume, {"path": "/dev/one", "n": [1]})
    told = await storage.get_connection_info(volume)
    assert (told["data"], told["device"]) == (info.data, {"path": "/dev/one", "n": [1]})
    await connected(site, volume, "host2")
    await storage.save_device(volume, {"path": "/dev/two"}, site.connector("host2"))
    with pytest.raises(ManagedVolumeInUse, match="host1"):
        await storage.get_connection_info(volume)
    told = await storage.get_connection_info(volume, site.connector("host1"))
    assert told["device"]["path"] == "/dev/one"
    await storage.disconnect_volume(volume)
    await storage.delete_volume(volume)
    nothing_is_left(site)


async def test_the_stats_tell_of_the_room(site: Site, storage: ManagedStorage) -> None:
    stats = await storage.storage_stats()
    assert isinstance(stats.free_capacity_gb, float)
    assert isinstance(stats.total_capacity_gb, float)
    assert 0 < stats.free_capacity_gb <= stats.total_capacity_gb


# --- content --------------------------------------------------------------------------------------


async def test_snapshots_and_clones_have_the_content_of_their_moment(
    site: Site, storage: ManagedStorage
) -> None:
    volume, early, clone = (site.new_volume() for _ in range(3))
    await storage.create_volume(volume, 1)
    await written(site, volume, f"write -P {A} 0 64k", f"write -P {A} 512M 64k")
    await storage.create_snapshot(volume, "early")
    await written(site, volume, f"write -P {B} 0 64k", f"write -P {C} 1M 64k")
    await storage.clone_volume(volume, clone)
    await storage.create_volume_from_snapshot(volume, "early", early)
    await storage.remove_snapshot(volume, "early")
    await storage.delete_volume(volume)  # nothing ties them together
    info = await connected(site, early)
    site.write(info, "host1", f"read -P {A} 0 64k", f"read -P {A} 512M 64k", "read -P 0 1M 64k")
    await storage.disconnect_volume(early)
    info = await connected(site, clone)
    site.write(info, "host1", f"read -P {B} 0 64k", f"read -P {A} 512M 64k", f"read -P {C} 1M 64k")
    await storage.disconnect_volume(clone)
    await storage.delete_volume(early)
    await storage.delete_volume(clone)
    nothing_is_left(site)


async def test_a_volume_goes_back_to_its_snapshot(site: Site, storage: ManagedStorage) -> None:
    volume = site.new_volume()
    await storage.create_volume(volume, 1)
    await written(site, volume, f"write -P {A} 0 64k")
    chosen = await storage.create_snapshot(volume)
    await written(site, volume, f"write -P {B} 0 128k")
    await storage.revert_to_snapshot(volume, chosen)
    assert site.look(volume, 128 << 10) == b"\xaa" * (64 << 10) + bytes(64 << 10)
    await written(site, volume, f"write -P {C} 0 64k")
    await storage.revert_to_snapshot(volume, chosen)  # it is still there, and still the same
    assert site.look(volume, 64 << 10) == b"\xaa" * (64 << 10)
    await storage.remove_snapshot(volume, chosen)
    await storage.delete_volume(volume)
    nothing_is_left(site)


@ceph_if_full
async def test_a_volume_that_was_extended_keeps_its_content(
    site: Site, storage: ManagedStorage
) -> None:
    volume = site.new_volume()
    await storage.create_volume(volume, 1)
    await written(site, volume, f"write -P {A} 1023M 1M")
    await storage.extend_volume(volume, 3)
    info = await connected(site, volume)
    assert site.size(info, "host1") == 3 * GIB
    site.write(info, "host1", f"read -P {A} 1023M 1M", "read -P 0 1G 1M", f"write -P {B} 3071M 1M")
    await storage.disconnect_volume(volume)
    await storage.delete_volume(volume)


# --- hosts ----------------------------------------------------------------------------------------


async def test_a_host_gets_in_between_connect_and_disconnect_only(
    site: Site, storage: ManagedStorage
) -> None:
    volume, other = site.new_volume(), site.new_volume()
    await storage.create_volume(volume, 1)
    await storage.create_volume(other, 1)
    first = await connected(site, volume)
    another = await connected(site, other, "host2")
    guess = stolen(site, first, another)
    assert not site.opens(guess, "host2")  # it knows where the volume is, and is itself
    second = await connected(site, volume, "host2")
    assert site.opens(second, "host2")
    assert site.opens(first, "host1")
    await storage.disconnect_volume(volume, site.connector("host2"))
    assert not site.opens(second, "host2")
    assert not site.opens(guess, "host2")
    assert site.opens(first, "host1")
    assert site.opens(another, "host2")
    await storage.disconnect_volume(volume)
    assert not site.opens(first, "host1")
    await storage.disconnect_volume(other)


def stolen(site: Site, other: ConnectionInfo, own: ConnectionInfo) -> ConnectionInfo:
    """A connection to the volume of another host, with what a host knows of its own identity."""
    identity = ("auth_method", "auth_username", "auth_password", "keyring", "url")
    data = {**other.data, **{key: own.data[key] for key in identity if key in own.data}}
    if site.kind == "file":  # no identity but the socket: nobody has made one there
        data["url"] = other.data["url"].replace("socket=", "socket=/nowhere")
    return ConnectionInfo(other.driver_volume_type, data)


async def test_a_disconnect_cuts_the_writer_of_one_host_and_spares_the_other(
    site: Site, storage: ManagedStorage
) -> None:
    volume = site.new_volume()
    await storage.create_volume(volume, 1)
    first, second = await connected(site, volume), await connected(site, volume, "host2")
    with site.writer(first, "host1"):
        await it_writes(site, volume)
        await storage.disconnect_volume(volume, site.connector("host1"))
        await it_is_quiet(site, volume)
        assert site.opens(second, "host2")
        site.write(second, "host2", f"write -P {C} 0 64k")
        await it_is_quiet(site, volume)
        assert site.look(volume, 64 << 10) == b"\xcc" * (64 << 10)
    await storage.disconnect_volume(volume)
    await storage.delete_volume(volume)
    nothing_is_left(site)


async def test_a_disconnect_of_all_hosts_cuts_every_writer(
    site: Site, storage: ManagedStorage
) -> None:
    volume = site.new_volume()
    await storage.create_volume(volume, 1)
    hosts = {name: await connected(site, volume, name) for name in ("host1", "host2")}
    with site.writer(hosts["host2"], "host2"):
        await it_writes(site, volume)
        await storage.disconnect_volume(volume)
        await it_is_quiet(site, volume)
        assert (await storage.volume_info(volume)).hosts == []
        assert [site.opens(info, name) for name, info in hosts.items()] == [False, False]
        again = await connected(site, volume, "host2")  # a host that is told so gets in again
        site.write(again, "host2", f"write -P {C} 0 64k")
        await storage.disconnect_volume(volume)
        await storage.delete_volume(volume)  # although the writer still runs, and tries
    nothing_is_left(site)


async def it_writes(site: Site, volume: str) -> None:
    seen = {site.look(volume, 1)}

    def changed() -> bool:
        seen.add(site.look(volume, 1))
        return len(seen) > 3

    await until(changed)


async def it_is_quiet(site: Site, volume: str) -> None:
    before = site.look(volume, 64 << 10)
    await trio.sleep(OBSERVED)
    assert site.look(volume, 64 << 10) == before


# --- faults ---------------------------------------------------------------------------------------


LATER = [0.05, 0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
HASTE = [0.2, *(pytest.param(seconds, marks=pytest.mark.full) for seconds in LATER)]


@pytest.mark.parametrize("seconds", HASTE)
async def test_a_command_that_is_killed_can_be_repeated(site: Site, seconds: float) -> None:
    """Wherever the kill hits; with the longer times it may have ended before."""
    volume, clone = site.new_volume(), site.new_volume()
    host = site.connector("host1")
    storage, hasty = site.storage, site.program(seconds)

    async def twice(call: Callable[[ManagedStorage], Awaitable[object]]) -> None:
        with suppress(AdapterStalled):
            await call(hasty)
        assert site.processes() == servers
        await call(storage)

    servers: list[str] = []
    await twice(lambda which: which.create_volume(volume, 1))
    await written(site, volume, f"write -P {A} 0 4M")
    await twice(lambda which: which.clone_volume(volume, clone))
    info = await connected(site, clone)
    site.write(info, "host1", f"read -P {A} 0 4M")
    servers = site.processes()
    await twice(lambda which: which.extend_volume(volume, 2))
    with suppress(AdapterStalled):
        await hasty.disconnect_volume(clone, host)
    await storage.disconnect_volume(clone, host)
    assert not site.opens(info, "host1")
    servers = site.processes()
    with suppress(AdapterStalled):
        await hasty.connect_volume(volume, host)
    info = await storage.connect_volume(volume, host)
    site.write(info, "host1", f"read -P {A} 0 4M")
    await storage.disconnect_volume(volume)
    for one in (volume, clone):
        with suppress(AdapterStalled):
            await hasty.delete_volume(one)
        with suppress(NoSuchManagedVolume):
            await storage.delete_volume(one)
    nothing_is_left(site)


async def test_storage_that_does_not_answer_ends_in_a_time_out(site: Site) -> None:
    volume = site.new_volume()
    await site.storage.create_volume(volume, 1)
    with site.hung(volume) as options:
        hasty = site.program(1.5, **options)
        begun = time.monotonic()
        with pytest.raises(AdapterStalled):
            await hasty.connect_volume(volume, site.connector("host1"))
        assert time.monotonic() - begun < 10
        assert site.processes() == []
    info = await connected(site, volume)  # and the next attempt works
    assert site.opens(info, "host1")
    await site.storage.disconnect_volume(volume)
    await site.storage.delete_volume(volume)
    nothing_is_left(site)


BREAKABLE = {"file": ["qemu-nbd"], "tgt": ["tgtadm"], "ceph": ["rbd", "ceph"]}
BROKEN = {
    "garbage": ("echo '<html>502</html>'; exit 0", ("BadOutput", "ToolFailed")),
    "nothing": ("exit 0", ("BadOutput", "ToolFailed")),
    "killed": ("kill -9 $$", ("ToolKilled",)),
    "full": ("echo 'No space left on device' >&2; exit 1", ("NoSpaceLeft",)),
}


@ceph_if_full
@pytest.mark.parametrize("fault", BROKEN)
async def test_a_tool_that_prints_nonsense_or_dies_is_a_clear_error(
    site: Site, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, expected = BROKEN[fault]
    volume = site.new_volume()
    await site.storage.create_volume(volume, 1)
    path = os.environ["PATH"]
    for tool in BREAKABLE[site.kind]:
        place = tmp_path / f"broken-{tool}"
        place.mkdir()
        (place / tool).write_text(f"#!/bin/sh\n{script}\n")
        (place / tool).chmod(0o755)
        monkeypatch.setenv("PATH", f"{place}:{path}")
        with pytest.raises(Error) as caught:
            await connected(site, volume)
        assert type(caught.value).__name__ in expected, caught.value
    monkeypatch.setenv("PATH", path)
    info = await connected(site, volume)
    assert site.opens(info, "host1")
    await site.storage.disconnect_volume(volume)
    await site.storage.delete_volume(volume)
    nothing_is_left(site)


async def test_no_secret_is_in_an_argument_or_in_the_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    storage, volume = site.program(), site.new_volume()
    with arguments() as seen:
        await storage.create_volume(volume, 1)
        info = await storage.connect_volume(volume, site.connector("host1"))
        told = await storage.get_connection_info(volume)
        await storage.disconnect_volume(volume)
        with pytest.raises(ManagedVolumeExists) as caught:
            await storage.create_volume(volume, 7)
        await storage.delete_volume(volume)
    assert any("create_volume" in line for line in seen)  # it did look
    secrets = [str(one) for one in site.driver.secret.values()]
    secrets += [info.data[key] for key in ("keyring", "auth_password") if key in info.data]
    secrets = [word for one in secrets for word in one.split() if len(word) > 12]
    assert (secrets == []) == (site.kind == "file" or site.driver.options.get("chap") is False)
    for secret in secrets:
        assert [line for line in seen if secret in line and "client." not in secret] == []
        assert secret not in caplog.text or "client." in secret
        assert secret not in str(caught.value) + repr(caught.value) + repr(info)
    assert told["data"] == info.data


@contextmanager
def arguments() -> Iterator[set[str]]:
    """The command lines of all processes that were there during the body."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for name in os.listdir("/proc"):
                if name.isdigit():
                    with suppress(OSError):
                        words = Path(f"/proc/{name}/cmdline").read_bytes()
                        seen.add(words.decode("utf-8", "replace"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
