"""Another process that uses the same store. Its commands: see COMMANDS.

Run as `python -m tests.conformance.child SITE COMMAND [ARG...]`. It says `ready` when it has what
it came for, and those that hold something keep it until their stdin ends.
"""

import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID, uuid5

import trio

from leases import change, verbs
from leases.grant import Grant
from leases.hold import hold
from leases.store import Store
from protocol.messages import JobMetadata
from protocol.record import Expectation, JobRecord, JobStatus
from tests.conformance.stores import Site, opened

SPACE = UUID(int=0)
SPOILED = b"?" * 64  # a record of no lease, and no free one


def job_id(name: str) -> str:
    """The lease and job id for a short name."""
    return str(uuid5(SPACE, name))


def say(word: str) -> None:
    print(word, flush=True)


async def until_stdin_ends() -> None:
    await trio.to_thread.run_sync(sys.stdin.buffer.read)


async def hold_it(store: Store, lease_id: str) -> None:
    """Hold the lease."""
    async with hold(store, await verbs.info(store, lease_id)) as grant:
        await grant.write(JobRecord({"held": "here"}))
        say("ready")
        await until_stdin_ends()
    say("released")


async def lend_it(store: Store, lease_id: str) -> None:
    """Hold the lease, and give it to a child of our own; says `ready PID`."""
    async with hold(store, await verbs.info(store, lease_id)) as grant:
        child = subprocess.Popen(["/bin/sleep", "600"], pass_fds=grant.fds)
        say(f"ready {child.pid}")
        await until_stdin_ends()


async def cycle(store: Store, lease_id: str, count: str) -> None:
    """Hold, write and release again and again; any failure is an error."""
    lease = await verbs.info(store, lease_id)
    say("ready")
    for number in range(int(count)):
        async with hold(store, lease) as grant:
            await grant.write(JobRecord({"number": number}))
            await grant.check()


async def create(store: Store, name: str, count: str) -> None:
    """Create `count` leases NAME-0, NAME-1, ... with metadata."""
    say("ready")
    for number in range(int(count)):
        made = job_id(f"{name}-{number}")
        metadata = JobMetadata(UUID(made), number, JobStatus.PENDING)
        await verbs.create(store, made, metadata, now=1, hardware_id="h")


async def churn(store: Store, name: str, count: str) -> None:
    """Create, fence and delete leases of our own, `count` times."""
    say("ready")
    for number in range(int(count)):
        made = job_id(f"{name}-{number}")
        metadata = JobMetadata(UUID(made), 0, JobStatus.PENDING)
        await verbs.create(store, made, metadata, now=1, hardware_id="h")
        await verbs.fence(store, made, Expectation(made, 0), now=2, hardware_id="h")
        found = await verbs.status(store, made)
        assert found.metadata is not None
        assert (found.metadata["job_id"], found.metadata["job_status"]) == (made, "FENCED")
        await verbs.delete(store, made)


async def rebuild(store: Store) -> None:
    """Rebuild again and again until stdin ends; tells how often it brought a lease back."""
    say("ready")
    restored = 0
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_stdin_ends, scope)
            while True:
                done = await verbs.rebuild(store, now=3)
                assert not done.written, done
                restored += len(done.restored)
                await trio.sleep(0.001)
    say(f"restored {restored}")


async def damage(store: Store, name: str, count: str) -> None:
    """Spoil the records of leases NAME-0 .. NAME-<count - 1> again and again until stdin ends."""
    say("ready")
    number = 0
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_stdin_ends, scope)
            while True:
                number = (number + 1) % int(count)
                await store.under_index(partial(_spoil, store, job_id(f"{name}-{number}")))
                await trio.sleep(0.001)
    say("done")


def _spoil(store: Store, lease_id: str, lock: Grant) -> None:
    place = store.volume.index(lock.sectors).find(lease_id)
    if place is not None:
        change.write(store.volume, lock, place.number, SPOILED, over=place.record)


async def _cancel_when_stdin_ends(scope: trio.CancelScope) -> None:
    await until_stdin_ends()
    scope.cancel()


async def once(store: Store, verb: str, lease_id: str) -> None:
    """One verb; LEASEHOLD_DIE_AT may end it early."""
    expected = Expectation(lease_id, 0)
    match verb:
        case "create":
            metadata = JobMetadata(UUID(lease_id), 0, JobStatus.PENDING)
            await verbs.create(store, lease_id, metadata, now=1, hardware_id="h")
        case "fence":
            await verbs.fence(store, lease_id, expected, now=2, hardware_id="h")
        case "delete":
            await verbs.delete(store, lease_id)
        case "force":
            await verbs.delete(store, lease_id, force=True)
        case "rebuild":
            await verbs.rebuild(store, now=3)
        case _:
            raise AssertionError(verb)


COMMANDS: dict[str, Callable[..., Awaitable[None]]] = {
    c.__name__: c for c in (hold_it, lend_it, cycle, create, churn, rebuild, damage, once)
}


if __name__ == "__main__":
    trio.run(COMMANDS[sys.argv[2]], opened(Site.parse(sys.argv[1])), *sys.argv[3:])
