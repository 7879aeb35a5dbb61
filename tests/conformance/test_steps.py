"""Every verb, killed at each of its steps by SIGKILL and run again."""

import ast
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from leases import verbs
from leases.hold import hold
from leases.store import Store
from tests.conformance.child import SPOILED, job_id
from tests.conformance.conftest import ROOT, SLOTS, Start
from tests.conformance.leases import (
    JOB,
    check_volume,
    create,
    fence,
    job_status,
    picture,
    write_record,
)
from tests.conformance.stores import Site, opened

FIRST = job_id("first")  # is there in every scenario, and has nothing to do with it
Prepared = Callable[[Store], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def nothing(store: Store) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def a_lease(store: Store) -> AsyncIterator[None]:
    await create(store)
    yield


@asynccontextmanager
async def a_held_lease(store: Store) -> AsyncIterator[None]:
    async with hold(store, await create(store)):
        yield


@asynccontextmanager
async def deleted_while_held(store: Store) -> AsyncIterator[None]:
    async with hold(store, await create(store)):
        await verbs.delete(store, JOB, force=True)
    yield


@asynccontextmanager
async def deleted_while_held_and_no_space(store: Store) -> AsyncIterator[None]:
    async with deleted_while_held(store):
        for number in range(SLOTS - 2):
            await create(store, job_id(str(number)))
        yield


@asynccontextmanager
async def damaged(store: Store) -> AsyncIterator[None]:
    """One lease has no record, the slot of another is of no lease, of a third only that is left."""
    write_record(store, await create(store), SPOILED)
    other = await create(store, job_id("other"))
    with store.volume.open(write=True) as sectors:
        sectors.write(other.offset, bytes(store.volume.geometry.sector))
    third = await create(store, job_id("third"))
    await create(store, job_id("fourth"))
    with store.volume.open() as sectors:
        fourth = store.volume.index(sectors).find(job_id("fourth"))
    assert fourth is not None
    write_record(store, third, fourth.record)
    yield


@dataclass(frozen=True)
class Scenario:
    """prepared: what is there before, for its time. command: of the child (`once`).

    then: the same command run again succeeds, but for the steps `done_at`, after which the verb has
    done its work and refuses to do it twice.
    """

    verb: str
    steps: tuple[str, ...]
    prepared: Prepared
    command: tuple[str, str]
    done_at: frozenset[str] = frozenset()


SCENARIOS = {
    "create": Scenario("create", ("locked", "slot", "record"), nothing, ("create", JOB)),
    "fence": Scenario(
        "fence",
        ("acquired", "lvb", "released"),
        a_lease,
        ("fence", JOB),
        done_at=frozenset({"lvb", "released"}),
    ),
    "delete": Scenario(
        "delete",
        ("locked", "acquired", "lvb", "record", "released", "slot"),
        a_lease,
        ("delete", JOB),
    ),
    "delete by force": Scenario("delete", ("locked", "hidden"), a_held_lease, ("force", JOB)),
    "sweep by delete": Scenario(
        "sweep", ("slot", "record"), deleted_while_held, ("delete", job_id("never made"))
    ),
    "sweep by create": Scenario(
        "sweep",
        ("slot", "record"),
        deleted_while_held_and_no_space,
        ("create", job_id("one more")),
    ),
    "rebuild": Scenario(
        "rebuild", ("locked", "slot", "records", "metadata"), damaged, ("rebuild", "")
    ),
}


@pytest.mark.sample(16)
@pytest.mark.parametrize(
    ("name", "step"), [(name, step) for name, s in SCENARIOS.items() for step in s.steps]
)
async def test_a_verb_killed_at_any_step_and_run_again_has_done_what_it_does_undisturbed(
    store: Store, start: Start, twin: Site, name: str, step: str
) -> None:
    scenario = SCENARIOS[name]
    undisturbed = opened(twin)
    await create(undisturbed, FIRST)
    async with scenario.prepared(undisturbed):
        assert start("once", *scenario.command, at=twin).end() == 0
    await create(store, FIRST)
    async with scenario.prepared(store):
        killed = start("once", *scenario.command, die_at=f"{scenario.verb}:{step}")
        assert killed.end() == -signal.SIGKILL
        assert await job_status(store, FIRST) == "PENDING"
        if scenario.verb != "rebuild":  # which begins with leases that nobody can use
            await check_volume(store)
        again = start("once", *scenario.command).end()
        assert (again != 0) == (step in scenario.done_at)
    assert await picture(store) == await picture(undisturbed)
    await check_volume(store)


@pytest.mark.parametrize("step", SCENARIOS["create"].steps)
async def test_a_create_that_was_killed_leaves_a_lease_that_can_be_fenced_or_none(
    store: Store, start: Start, step: str
) -> None:
    assert start("once", "create", JOB, die_at=f"create:{step}").end() == -signal.SIGKILL
    if [lease.lease_id for lease in await verbs.leases(store)]:
        await fence(store)
        assert await job_status(store) == "FENCED"
    await verbs.delete(store, JOB)
    assert await verbs.leases(store) == []
    await create(store)
    assert await job_status(store) == "PENDING"


@pytest.mark.sample(14)
@pytest.mark.parametrize(
    ("name", "step"),
    [(name, step) for name, s in SCENARIOS.items() for step in s.steps if name != "rebuild"],
)
async def test_a_rebuild_after_the_death_of_a_verb_leaves_every_lease_usable(
    store: Store, start: Start, name: str, step: str
) -> None:
    scenario = SCENARIOS[name]
    await create(store, FIRST)
    async with scenario.prepared(store):
        killed = start("once", *scenario.command, die_at=f"{scenario.verb}:{step}")
        assert killed.end() == -signal.SIGKILL
        done = await verbs.rebuild(store, now=3)
        assert not done.written
        await check_volume(store)
        assert await job_status(store, FIRST) == "PENDING"
        there = {lease.lease_id: lease.updating for lease in await verbs.leases(store)}
        if name == "create":  # the slot is a job's, and that is never thrown away
            assert (JOB in there) == (step != "locked")
        if name == "delete" and step in ("lvb", "record", "released", "slot"):
            assert JOB not in there or (await verbs.status(store, JOB)).metadata == {}
        if name == "sweep by delete":
            assert there.get(JOB, True)
        start("once", *scenario.command).end()
    await check_volume(store)


async def test_the_other_processes_are_by_turns_on_the_hosts_of_their_kind(
    site: Site, store: Store, start: Start
) -> None:
    """So what one host was killed at above was run again by the other."""
    await create(store)
    owners = []
    for _ in range(3):
        other = start("hold_it", JOB)
        other.ready()
        owners += (await verbs.status(store, JOB)).owners
        assert other.end() == 0
    assert owners == ([2, 1, 2] if site.kind == "sanlock on two hosts" else [1, 1, 1])


def test_every_step_of_a_lease_verb_is_killed_at_by_a_scenario() -> None:
    """A new call of `reached` there needs a scenario here."""
    found = set()
    for path in ROOT.glob("leases/*.py"):
        found |= steps_in(path)
    assert found == {(s.verb, step) for s in SCENARIOS.values() for step in s.steps}


def steps_in(path: Path) -> set[tuple[str, str]]:
    """The arguments of all calls of `reached`; they must be literal."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "reached":
            verb, step = (ast.literal_eval(argument) for argument in node.args)
            found.add((verb, step))
    return found
