"""Joining and leaving lockspaces, on real daemons. This process is one of host A."""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from leases import (
    daemon,
    delta,
    header,
    ids,
    joining,
    lockspace,
    range_lock,
    silence,
    verbs,
)
from leases.attempt import usual_time
from leases.embedded import EmbeddedStore
from leases.geometry import DEFAULT
from leases.hold import hold
from leases.lockspace import KnownHost, Lockspace, Member, State
from leases.sanlock_store import SanlockStore
from leases.sector import Sectors
from leases.volume import LeaseVolume, format_volume
from protocol.errors import AcquireHostIdFailure, BadParameter, InvalidDomain, WrongStore
from tests.cli.run import ROOT
from tests.sanlock_hosts import IO_TIMEOUT, Host, Hosts, running, write_lockspace
from tests.servers import WAIT

pytestmark = pytest.mark.tools("sanlock")

SD_ID = "99999999-2222-4333-8444-555555555555"
OTHER = "88888888-2222-4333-8444-555555555555"
HOST_ID = 7


async def join(space: Lockspace, host_id: int = HOST_ID, wait: float = 0.0) -> Member:
    return await lockspace.join(
        space, host_id, without_watchdog=True, io_timeout=IO_TIMEOUT, wait=wait
    )


async def refused(space: Lockspace, reason: str, host_id: int = HOST_ID) -> None:
    """Joining is, and nothing of it is left."""
    with pytest.raises(AcquireHostIdFailure, match=reason) as caught:
        await join(space, host_id)
    assert caught.value.code == 661
    assert memberships(space) == []


def memberships(space: Lockspace) -> list[int]:
    """The ids with which host A is in the lockspace, or about to be."""
    return [one.host_id for one in daemon.memberships() if one.sd_id == space.sd_id]


def formatted(space: Lockspace) -> bool:
    return ids.lockspace(space.ids, space.geometry) is not None


@pytest.fixture
async def space(hosts: Hosts, tmp_path: Path) -> AsyncIterator[Lockspace]:
    """A domain of the embedded store, with a volume; host A has left it in the end."""
    (tmp_path / "image").mkdir()
    (tmp_path / "ids").touch()
    (tmp_path / "image" / "volume.lease").write_bytes(bytes(DEFAULT.alignment))
    others = str(tmp_path / "*" / "*.lease")
    space = Lockspace(
        SD_ID, str(tmp_path / "ids"), str(tmp_path / "xleases"), DEFAULT, others=others
    )
    format_volume(LeaseVolume(space.xleases, SD_ID, DEFAULT), now=0, leases=2)
    yield space
    await lockspace.leave(space)
    assert memberships(space) == []


@contextmanager
def locked(path: Path | str) -> Iterator[None]:
    """A lease of the embedded store is held."""
    with open(path, "r+b") as file:
        assert range_lock.lock(file.fileno(), 0, DEFAULT.alignment)
        yield


@contextmanager
def writer(sd_id: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that can write under a lease of this host."""
    code = f"from leases import writers; writers.covered({sd_id!r}); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()


async def test_a_domain_of_the_embedded_store_is_joined_used_and_left(space: Lockspace) -> None:
    told: list[tuple[float, float]] = []
    first = await lockspace.join(
        space,
        HOST_ID,
        without_watchdog=True,
        io_timeout=IO_TIMEOUT,
        report=lambda *times: told.append(times),
    )
    assert first == Member(HOST_ID, "a", 1, IO_TIMEOUT)
    assert all(usual == 2 * IO_TIMEOUT + 1 for _, usual in told)
    assert sorted(told) == told
    assert len(told) > 10
    # Again is no error, and no id beside it is taken.
    assert await lockspace.join(space, HOST_ID) == first
    with pytest.raises(AcquireHostIdFailure, match=f"with the host id {HOST_ID}: leave it first"):
        await join(space, 8)
    # The embedded store is out.
    with pytest.raises(WrongStore, match=f"leasehold host join {SD_ID}"):
        EmbeddedStore(SD_ID, space.xleases, space.ids).take_index()
    # While a lease is held, the membership is kept.
    store = SanlockStore(SD_ID, space.xleases, space.ids, space.geometry)
    lease = await verbs.create(store, "lease", None, now=0, hardware_id="h")
    async with hold(store, lease):
        with pytest.raises(AcquireHostIdFailure, match="wait for them or abort them") as caught:
            await lockspace.leave(space)
        assert caught.value.verb == "leave"
        assert memberships(space) == [HOST_ID]
    with trio.fail_after(WAIT):
        while (found := await lockspace.status(space)).hosts[0].state != "live":  # noqa: ASYNC110
            await trio.sleep(0.1)
    assert (found.state, found.host_id, found.io_timeout) == (State.JOINED, HOST_ID, IO_TIMEOUT)
    assert [(one.host_id, one.name, one.state, one.generation) for one in found.hosts] == [
        (HOST_ID, "a", "live", 1)
    ]
    await lockspace.leave(space)
    await lockspace.leave(space)
    found = await lockspace.status(space)
    assert (found.state, found.host_id) == (State.OUT, None)
    assert found.hosts == [KnownHost(HOST_ID, "a", "free", 1, None)]
    assert delta.read(space.ids, HOST_ID, space.geometry).timestamp == 0


async def test_two_who_join_at_once_both_succeed(space: Lockspace) -> None:
    made: list[Member] = []

    async def one() -> None:
        made.append(await join(space, wait=WAIT))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        nursery.start_soon(one)
    assert made == [Member(HOST_ID, "a", 1, IO_TIMEOUT)] * 2


@pytest.mark.parametrize("host_id", [-1, 0, 2001])
async def test_an_id_out_of_range_is_refused_before_anything(tmp_path: Path, host_id: int) -> None:
    with pytest.raises(BadParameter, match="1 to 2000"):
        await join(Lockspace(SD_ID, str(tmp_path), str(tmp_path), DEFAULT), host_id)


async def test_one_that_comes_second_without_having_seen_the_first_is_no_error(
    space: Lockspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await join(space)
    real, blind = joining._settled, [True]

    async def blind_once(*arguments: Any) -> Any:
        return None if blind and blind.pop() else await real(*arguments)

    monkeypatch.setattr(joining, "_settled", blind_once)
    assert await join(space, wait=WAIT) == made


async def test_an_id_of_another_live_host_is_refused_as_soon_as_that_is_seen_to_live(
    hosts: Hosts, space: Lockspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon itself would wait for more than a minute."""
    ids.format_ids(space.ids, SD_ID, IO_TIMEOUT, space.geometry)
    hosts.b.join(SD_ID, Path(space.ids))
    try:
        with trio.fail_after(WAIT):
            await refused(space, "host id 2 is in use by the host b: take another", host_id=2)
        owner = delta.read(space.ids, 2, space.geometry)
        assert (owner.name, owner.owner_generation) == ("b", 1)
        (known,) = (await lockspace.status(space)).hosts
        assert (known.name, known.state) == ("b", "unknown")
        # When the daemon gives up first, what stands there tells why.
        monkeypatch.setattr(daemon, "join", lambda *place: None)
        monkeypatch.setattr(daemon, "joined", lambda *place: False)
        await refused(space, "host id 2 is in use by the host b", host_id=2)
        await refused(space, "the daemon gave up", host_id=3)
    finally:
        hosts.b.leave(SD_ID, Path(space.ids))


@pytest.fixture
def twin(hosts: Hosts) -> Iterator[Host]:
    """Another host with the name of host A, which takes the id that we want."""
    folder = Path(tempfile.mkdtemp(prefix="lh-", dir="/tmp"))  # short, for its socket
    with running(hosts.a.name, folder, HOST_ID) as host:
        yield host
    shutil.rmtree(folder)


async def test_an_id_of_a_live_host_with_our_own_name_is_refused(
    twin: Host, space: Lockspace
) -> None:
    """The daemon itself would take it for its own former life, and join at once."""
    ids.format_ids(space.ids, SD_ID, IO_TIMEOUT, space.geometry)
    twin.join(SD_ID, Path(space.ids))
    await refused(space, f"host id {HOST_ID} is in use by another host with the name of this one")
    owner = delta.read(space.ids, HOST_ID, space.geometry)
    assert (owner.name, owner.owner_generation) == (twin.name, 1)


def write_delta(space: Lockspace, *, timestamp: int) -> None:
    """Make our id that of a host with our own name. timestamp: its uptime; 0: it has left."""
    data = bytearray(delta.fresh(SD_ID, IO_TIMEOUT, space.geometry))
    struct.pack_into("<2Q", data, 32, HOST_ID, 1)
    struct.pack_into("<48sQ", data, 104, b"a", timestamp)
    header.seal(data)
    with Sectors.open(space.ids, write=True) as sectors:
        sectors.write(delta.offset(HOST_ID, space.geometry), bytes(data))


@pytest.fixture
async def died(hosts: Hosts, space: Lockspace) -> Lockspace:
    """What a daemon of this host that died leaves behind."""
    assert hosts.a.name == "a"
    ids.format_ids(space.ids, SD_ID, IO_TIMEOUT, space.geometry)
    write_delta(space, timestamp=5)
    return space


async def test_an_id_of_our_own_name_is_joined_when_it_is_not_renewed(died: Lockspace) -> None:
    """How long it takes is told before."""
    told: list[tuple[float, float]] = []
    member = await lockspace.join(
        died, HOST_ID, without_watchdog=True, report=lambda *times: told.append(times)
    )
    assert member == Member(HOST_ID, "a", 2, IO_TIMEOUT)
    assert told == sorted(told)
    whole = silence.watch_time(IO_TIMEOUT) + usual_time(IO_TIMEOUT)
    assert {usual for _, usual in told} == {whole}


async def test_an_id_of_our_own_name_that_is_left_meanwhile_is_free(
    died: Lockspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "watch_time", lambda io_timeout: 10 * WAIT)
    told: list[float] = []

    def leave(elapsed: float, usual: float) -> None:
        if not told:
            write_delta(died, timestamp=0)
        told.append(elapsed)

    with trio.fail_after(WAIT):
        member = await lockspace.join(died, HOST_ID, without_watchdog=True, report=leave)
    assert (member.host_id, member.generation) == (HOST_ID, 2)
    assert told


async def test_two_who_join_again_at_once_both_succeed(died: Lockspace) -> None:
    """The one that comes second sees the renewals of this host's own daemon."""
    made: list[Member] = []

    async def one(later: float) -> None:
        await trio.sleep(later)
        made.append(await join(died, wait=1))  # not to wait for the other

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, 0)
        nursery.start_soon(one, 1)
    assert made == [Member(HOST_ID, "a", 2, IO_TIMEOUT)] * 2


async def test_a_joining_that_is_not_believed_is_undone(
    space: Lockspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon says that it has joined, and somebody else's name stands there."""
    answers = []
    real = daemon.joined

    def joined(*place: Any) -> bool | None:
        answer = real(*place)
        if answer:
            answers.append(answer)
            own = delta.read(space.ids, HOST_ID, space.geometry)
            monkeypatch.setattr(delta, "read", lambda *place: replace(own, name="c"))
        return answer

    monkeypatch.setattr(daemon, "joined", joined)
    await refused(space, f"host id {HOST_ID} is in use by the host c")
    assert answers == [True]


async def test_a_lockspace_of_another_domain_is_refused(hosts: Hosts, space: Lockspace) -> None:
    write_lockspace(hosts.a, OTHER, Path(space.ids))
    await refused(space, f"is the lockspace of '{OTHER}'")


async def test_a_damaged_lockspace_is_refused_and_not_written_over(space: Lockspace) -> None:
    Path(space.ids).write_bytes(b"precious" * 512)
    await refused(space, "is damaged")
    assert Path(space.ids).read_bytes() == b"precious" * 512


async def test_a_missing_lockspace_is_no_domain(space: Lockspace) -> None:
    os.unlink(space.ids)
    with pytest.raises(InvalidDomain, match="no such file"):
        await join(space)


async def test_another_file_of_the_same_lockspace_is_told_apart(
    hosts: Hosts, space: Lockspace
) -> None:
    copy = Lockspace(hosts.sd_id, space.ids, space.xleases, space.geometry)
    with pytest.raises(AcquireHostIdFailure, match=str(hosts.ids)):
        await join(copy, 1)


@pytest.mark.parametrize("what", ["xleases", "image/volume.lease"])
async def test_a_domain_whose_leases_are_held_without_sanlock_is_not_joined(
    space: Lockspace, tmp_path: Path, what: str
) -> None:
    with locked(tmp_path / what):
        await refused(space, "jobs of the embedded store hold leases")
        assert not formatted(space)
        ids.format_ids(space.ids, SD_ID, IO_TIMEOUT, space.geometry)
        await refused(space, "jobs of the embedded store hold leases")


async def test_a_daemon_without_watchdog_is_refused(space: Lockspace) -> None:
    with pytest.raises(AcquireHostIdFailure, match="--no-watchdog"):
        await lockspace.join(space, HOST_ID)
    assert memberships(space) == []
    assert not formatted(space)


async def test_joining_waits_until_the_last_writer_of_the_former_life_is_gone(
    space: Lockspace,
) -> None:
    with writer(SD_ID) as process:
        await refused(space, rf"can still write .*\b{process.pid}\b.*; waited 0 s")
        assert not formatted(space)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(join, space, HOST_ID, WAIT)
            await trio.sleep(0.3)  # it has looked, and waits: nothing can be seen of that
            assert memberships(space) == []
            process.kill()
    assert memberships(space) == [HOST_ID]


async def test_writers_of_another_domain_hinder_nobody(space: Lockspace) -> None:
    with writer(OTHER):
        await join(space)


async def test_one_that_is_cancelled_leaves_nothing_behind(space: Lockspace) -> None:
    with trio.CancelScope() as scope:
        await lockspace.join(
            space,
            HOST_ID,
            without_watchdog=True,
            io_timeout=IO_TIMEOUT,
            report=lambda elapsed, usual: scope.cancel(),
        )
    assert scope.cancelled_caught
    assert memberships(space) == []


async def test_the_daemon_keeps_the_io_timeout_of_the_lockspace(space: Lockspace) -> None:
    """Not the one that a join would write."""
    ids.format_ids(space.ids, SD_ID, 2, space.geometry)
    assert (await join(space)).io_timeout == 2
    (own,) = ids.members(space.ids, space.geometry).values()
    assert own.io_timeout == 2


async def test_an_unformatted_lockspace_has_no_hosts(space: Lockspace) -> None:
    found = await lockspace.status(space)
    assert (found.state, found.io_timeout, found.hosts) == (State.OUT, None, [])
    await lockspace.leave(space)
