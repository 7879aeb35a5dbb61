"""A process of a host of its own, which does with leases what it is told. Its commands: COMMANDS.

Run as `python -m tests.faults.peer SITE` with SANLOCK_RUN_DIR. Each line on stdin is a JSON list,
a command and its arguments, each line on stdout its answer: {"answer": ...} or {"error": KIND,
"text": ...}. What it holds it keeps until it is told otherwise, or is gone.
"""

import json
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import trio

from leases import creation, daemon, ownership, verbs
from leases.grant import Grant
from leases.hold import hold
from leases.leader import Leader
from leases.lease import Lease
from leases.sanlock_store import SanlockStore
from leases.store import Store
from protocol.errors import AcquireLockFailure, Error
from protocol.messages import JobMetadata
from protocol.record import Expectation, JobRecord, JobStatus
from tests.conformance.stores import Site, opened
from tests.faults import writing
from tests.faults.command import Process, arguments

DEAD = 200.0  # seconds; longer than a host takes to be dead
PATIENCE = 60.0
_held: dict[str, Grant] = {}


def create(store: Store, lease_id: str) -> None:
    metadata = JobMetadata(UUID(lease_id), 0, JobStatus.PENDING)

    async def work() -> None:
        await verbs.create(store, lease_id, metadata, now=1, hardware_id="h")

    trio.run(work)


def fence(store: Store, lease_id: str) -> None:
    async def work() -> None:
        await verbs.fence(store, lease_id, Expectation(lease_id, 0), now=2, hardware_id="h")

    trio.run(work)


def delete(store: Store, lease_id: str) -> None:
    trio.run(verbs.delete, store, lease_id)


def status(store: Store, lease_id: str) -> tuple[list[int], int, dict[str, Any] | None]:
    """Owners, version, metadata."""
    found = trio.run(verbs.status, store, lease_id)
    return found.owners, found.version, found.metadata


def take(store: Store, lease_id: str) -> None:
    """Hold the lease; nothing watches it."""
    with store.volume.open() as sectors:
        lease = store.volume.lookup(sectors, lease_id)
    _held[lease_id] = store.take(lease)


def hold_for(store: Store, lease_id: str, seconds: float) -> float:
    """Hold the lease, or wait for it, for so long; how long that took."""
    with store.volume.open() as sectors:
        lease = store.volume.lookup(sectors, lease_id)

    async def work() -> None:
        with trio.move_on_after(seconds):
            async with hold(store, lease):
                await trio.sleep_forever()

    began = time.monotonic()
    trio.run(work)
    return time.monotonic() - began


def put(store: Store, lease_id: str, keys: dict[str, Any]) -> None:
    _held[lease_id].put(JobRecord(keys))


def load(store: Store, lease_id: str) -> dict[str, Any] | None:
    record = _held[lease_id].load()
    return None if record is None else dict(record.keys)


def give(store: Store, lease_id: str) -> None:
    store.give(_held.pop(lease_id))


def until_free(store: Store, lease_id: str) -> float:
    """Wait until nobody owns the lease; the seconds that took."""
    began = time.monotonic()
    while status(store, lease_id)[0]:
        assert time.monotonic() < began + DEAD, "it is still owned"
        time.sleep(0.05)
    return time.monotonic() - began


def until_index_free(store: Store) -> float:
    """Wait until nobody owns the index lease; the seconds that took."""
    began = time.monotonic()
    while store.look(store.volume.index_lease()):
        assert time.monotonic() < began + DEAD, "it is still owned"
        time.sleep(0.05)
    return time.monotonic() - began


def until_left(store: Store) -> None:
    """Wait until the daemon of this host has given its lockspace up."""
    began = time.monotonic()
    while daemon.memberships():
        assert time.monotonic() < began + PATIENCE, "it is still there"
        time.sleep(0.05)


def listed(store: Store) -> list[str]:
    """The ids of all leases."""
    return [one.lease_id for one in trio.run(verbs.leases, store)]


def until_taken(
    store: Store, lease_id: str, temporary: str, target: str, known: list[tuple[int, int]]
) -> dict[str, Any]:
    """Ask for the lease again and again, and once it is ours look who can write to `target`.

    temporary: TMPDIR of the command that has it. known: processes of that, pid and start.
    Says `trying` after the first attempt.
    """
    with store.volume.open() as sectors:
        lease = store.volume.lookup(sectors, lease_id)
    processes = writing.Known(Process(*one) for one in known)
    began = time.monotonic()
    tries = 1
    while (grant := _taken(store, lease)) is None:
        if tries == 1:
            answer("trying")
        assert time.monotonic() < began + PATIENCE, "it is still owned"
        tries += 1
    able = processes.able(target)
    taken = time.monotonic()
    able |= writing.able(temporary, target)
    processes.close()
    if tries == 1:
        answer("trying")
    record = grant.load() or JobRecord({})
    store.give(grant)
    writers = [f"{one}: {arguments(one.pid)}" for one in able]
    return {"tries": tries, "taken": taken, "writers": writers, "keys": dict(record.keys)}


def _taken(store: Store, lease: Lease) -> Grant | None:
    try:
        return store.take(lease)
    except AcquireLockFailure:
        return None


def watch(store: Store, lease_ids: list[str]) -> dict[str, Any]:
    """Read the status of the leases again and again until the next line comes.

    Each takes one job up once: at version 0 it is free and PENDING, at version 1 owned, or free and
    SUCCEEDED. Anything else is of no one moment. Jobs are run in the order of their leases, so the
    first that have not ended are looked at.
    """
    odd: list[str] = []
    looks = owned = 0
    versions = dict.fromkeys(lease_ids, 0)
    left = list(lease_ids)

    async def look(lease_id: str) -> None:
        nonlocal looks, owned
        found = await verbs.status(store, lease_id)
        said = found.metadata and (found.metadata["job_status"], found.metadata["generation"])
        moment = (found.owners, found.version, said)
        fits = moment in [([], 0, ("PENDING", 0)), ([1], 1, None), ([], 1, ("SUCCEEDED", 1))]
        if not fits or found.version < versions[lease_id]:
            odd.append(f"{lease_id}: {found}")
        if found.metadata and found.metadata["job_id"] != lease_id:
            odd.append(f"{lease_id}: {found}")
        versions[lease_id] = found.version
        looks += 1
        owned += bool(found.owners)
        if moment[1:] == (1, ("SUCCEEDED", 1)) and lease_id in left:
            left.remove(lease_id)

    async def look_on() -> None:
        while not select.select([sys.stdin], [], [], 0)[0]:
            for lease_id in left[:4] or lease_ids[:1]:
                await look(lease_id)

    answer("watching")
    trio.run(look_on)
    return {"looks": looks, "owned": owned, "odd": odd}


def race(store: SanlockStore, lease_id: str, number: int, name: str, seed: int) -> dict[str, Any]:
    """One round: begin when the clock says so, then acquire, write, release.

    Says when it had the lease (monotonic clock, which all processes share), or why it had not.
    """
    with store.volume.open() as sectors:
        lease = store.volume.lookup(sectors, lease_id)
    answer("ready")
    begin = json.loads(sys.stdin.readline())[0]
    time.sleep(max(0, begin - time.monotonic()) + random.Random(seed).uniform(0, 0.001))
    try:
        grant = store.take(lease)
    except AcquireLockFailure as e:
        return {"lost": str(e)}
    began = time.monotonic()
    grant.put(JobRecord({"number": number, "name": name, "began": began}))
    grant.verify()
    found = grant.load()
    assert found is not None
    assert found.keys["name"] == name
    ended = time.monotonic()
    store.give(grant)
    return {"held": [began, ended]}


def leader(store: SanlockStore, lease_id: str) -> dict[str, Any]:
    """What the leader of the lease looks like, and whether that counts."""
    with store.volume.open() as sectors:
        lease = store.volume.lookup(sectors, lease_id)
        size = store.geometry.sector
        found = Leader.unpack(sectors.read(lease.offset, size))
        block = sectors.read(lease.offset + (1 + found.owner_id) * size, size)
    return {
        "owned": bool(found.timestamp),
        "by another": found.writer_id != found.owner_id,
        "released": ownership.released(block),
        "owners": store.look(lease),
    }


def stopping(store: Store, at: str, command: str, *arguments: Any) -> Any:
    """Do a command, but say `reached` at a step of it, and go on there with the next line.

    at: a step of `create` or `delete`, or "acquire", just before the daemon is asked for a lease.
    """

    def pause() -> None:
        answer("reached")
        sys.stdin.readline()

    def reached(verb: str, step: str) -> None:
        if step == at:
            pause()

    acquire = daemon.acquire

    def paused_acquire(fd: int, lease: Lease) -> None:
        pause()
        acquire(fd, lease)

    if at == "acquire":
        daemon.acquire = paused_acquire
    creation.reached = reached  # type: ignore[attr-defined]
    return COMMANDS[command](store, *arguments)


def answer(what: Any) -> None:
    print(json.dumps({"answer": what}), flush=True)


COMMANDS: dict[str, Callable[..., Any]] = {
    c.__name__: c
    for c in (create, fence, delete, status, take, put, load, give, until_free, until_taken)
} | {
    c.__name__: c
    for c in (watch, race, leader, stopping, until_index_free, until_left, listed, hold_for)
}


def main(site: str) -> None:
    # What the daemon sends when its lockspace fails; the tests end this process otherwise.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    store = opened(Site.parse(site))
    for line in iter(sys.stdin.readline, ""):
        if line == "\n":  # the end of a `watch`
            continue
        command, *arguments = json.loads(line)
        try:
            answer(COMMANDS[command](store, *arguments))
        except Error as e:
            print(json.dumps({"error": type(e).__name__, "text": str(e)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
