"""The runner, over both databases: what is written down, undone, kept, and gone on with."""

import shutil
from dataclasses import replace

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from engine.commands import dying
from engine.commands.run import Progress, Run
from engine.commands.stage import CommandType, Hopeless, NoVerdict
from engine.db import audit, disks, volumes
from engine.db.quarantine import Quarantined
from protocol.errors import DatabaseGone, DiskLocked, NoSuchObject, WrongState
from tests.engine.commands.rig import ARRAY, Rig, all_commands, dies_at, over_databases
from tests.engine.commands.toys import DISK, Spec, Toys

GOOD = [
    *("create begin", "create done", "attach begin", "attach done"),
    *("copy begin", "copy done", "clean begin", "clean done", "forget begin", "forget done"),
]


@pytest.fixture
def toys(rig: Rig) -> Toys:
    rig.storages[ARRAY] = None  # type: ignore[assignment] # for its row
    return Toys()


def stages(toys: Toys) -> dict[str, CommandType]:
    return toys.type(
        toys.stage("create"),
        toys.stage("attach", needs=("create",)),
        toys.stage("copy", undo=False, final=True),
        toys.stage("clean", undo=False),
        toys.stage("forget", undo=False, needs=()),
    )


async def test_each_stage_is_written_down_before_it_acts_and_after(rig: Rig, toys: Toys) -> None:
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        assert await engine.journal(row.id) == GOOD
        assert (row.state, row.error) == ("succeeded", None)
        assert row.ended is not None
        assert row.facts == {
            f"made {one}": True for one in ("create", "attach", "copy", "clean", "forget")
        }
        assert (await engine.read(lambda c: disks.get(c, DISK))).state == "ok"
        texts = await engine.read(lambda c: [one.text for one in audit.search(c, object=row.id)])
        assert texts[0] == "toy succeeded"
        assert texts[-1] == "toy begins"
        changed = [
            data for kind, id, data in engine.told if (kind, id) == ("command.changed", row.id)
        ]
        assert changed[-1]["state"] == "succeeded"
    assert toys.resumed == []


async def test_how_far_a_job_is_is_told_in_the_stage_that_has_it_copy_and_in_no_other(
    rig: Rig, toys: Toys
) -> None:
    told: list[tuple[str, float | None]] = []

    def look(run: Run) -> None:
        told.append((run.stage, run.progress.percent))

    def copy(run: Run) -> None:
        run.report(Progress(40.0, 4096))
        look(run)

    def copy_in_vain(run: Run) -> None:
        copy(run)
        raise OSError("no cable")

    toys.fails("act copy", copy, copy_in_vain)
    for other in ("act clean", "undo attach", "undo create"):
        toys.fails(other, look)
    async with rig.engine(stages(toys)) as engine:
        await engine.run("toy", Spec())
        assert told == [("copy", 40.0), ("clean", None)]
        told.clear()
        await engine.run("toy", Spec())
        assert told == [("copy", 40.0), ("attach", None), ("create", None)]


async def test_what_fails_is_undone_the_last_one_first(rig: Rig, toys: Toys) -> None:
    toys.fails("act copy", OSError("no cable"))
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        assert (row.state, row.error and row.error["message"]) == ("failed", "no cable")
        assert toys.did[3:] == ["undo attach", "undo create"]
        disk = await engine.read(lambda c: disks.get(c, DISK))
        assert (disk.state, disk.description) == ("ok", "withdrawn")


async def test_a_stage_that_fails_is_undone_itself(rig: Rig, toys: Toys) -> None:
    toys.fails("act attach", "fails late")
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        assert row.state == "failed"
    assert toys.there == set()


async def test_an_undo_is_tried_again(rig: Rig, toys: Toys) -> None:
    toys.fails("act copy", OSError())
    toys.fails("undo attach", OSError(), OSError())
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        assert row.state == "failed"
        assert await engine.quarantine() == []
    assert toys.there == set()


async def test_what_cannot_be_undone_is_in_quarantine_with_all_that_it_rests_on(
    rig: Rig, toys: Toys
) -> None:
    toys.fails("act copy", OSError("no cable"))
    toys.fails("undo attach", *[OSError("still busy")] * 3)
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        assert row.state == "quarantined"
        assert toys.there == {"create", "attach"}
        kept = {one.object: one.reason for one in await engine.quarantine()}
        assert kept == {
            f"attach of {row.id}": "still busy (tried 3 times)",
            f"create of {row.id}": "attach could not be ended, and it rests on create",
        }
        states = await engine.read(lambda c: {volumes.get(c, id).state for id in kept})
        assert states == {"kept"}
        assert [kind for kind, *_ in engine.told].count("quarantine.added") == 2


async def test_an_undo_that_is_hopeless_is_not_tried_again(rig: Rig, toys: Toys) -> None:
    toys.fails("act copy", OSError("no cable"))
    toys.fails("undo attach", Hopeless("nobody knows its id", action="look there"))
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        assert row.state == "quarantined"
        assert toys.did.count("undo attach") == 1
        found = [one for one in await engine.quarantine() if one.reason == "nobody knows its id"]
        assert found[0].action.endswith("look there")


async def test_clear_tries_again_what_is_in_quarantine(rig: Rig, toys: Toys) -> None:
    toys.fails("act copy", OSError("no cable"))
    toys.fails("undo attach", *[OSError("still busy")] * 3)
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        await engine.commands.clear(row.id)
        row = await engine.ended(row.id)
        assert row.state == "failed"
        assert row.error
        assert row.error["message"] == "no cable"
        assert toys.there == set()
        assert await engine.quarantine() == []
        disk = await engine.read(lambda c: disks.get(c, DISK))
        assert (disk.state, disk.description) == ("ok", "withdrawn")
        with pytest.raises(WrongState):
            await engine.commands.clear(row.id)


async def test_what_a_person_has_removed_is_forgotten(rig: Rig, toys: Toys) -> None:
    toys.fails("act copy", OSError("no cable"))
    toys.fails("undo attach", *[OSError("still busy")] * 3)
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        await engine.commands.clear(row.id, by_hand=True)
        assert (await engine.ended(row.id)).state == "failed"
        assert toys.did.count("undo create") == 0
        assert await engine.quarantine() == []
        assert await engine.read(lambda c: volumes.find(c, f"attach of {row.id}")) is None


async def test_a_clean_up_that_fails_does_not_change_the_result(rig: Rig, toys: Toys) -> None:
    toys.fails("act clean", *[OSError("still busy")] * 3)
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        assert row.state == "succeeded"
        assert toys.did.count("act clean") == 3
        assert toys.resumed == ["clean", "clean"]
        assert toys.did[-1] == "act forget"  # it does not need the other
        assert [one.object for one in await engine.quarantine()] == [f"clean of {row.id}"]
        await engine.commands.clear(row.id)
        assert (await engine.ended(row.id)).state == "succeeded"
        assert await engine.quarantine() == []
        assert "clean" in toys.there


async def test_what_a_failed_act_wanted_written_is_not_written(rig: Rig, toys: Toys) -> None:
    toys.fails("act clean", "fails late")
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        assert (row.state, await engine.quarantine()) == ("succeeded", [])
        assert toys.did.count("act clean") == 2


async def test_without_a_verdict_nothing_is_undone(rig: Rig, toys: Toys) -> None:
    toys.fails("act copy", NoVerdict("the lease is gone", action="look", verdict={"row": "2d"}))
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        assert (row.state, row.verdict, row.ended) == ("unresolved", {"row": "2d"}, None)
        assert toys.there == {"create", "attach"}
        with pytest.raises(WrongState):
            await engine.commands.abort(row.id)


async def test_resolve_asks_again(rig: Rig, toys: Toys) -> None:
    toys.fails("act copy", NoVerdict("the lease is gone"), NoVerdict("still"))
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        await engine.commands.resolve(row.id)
        assert (await engine.ended(row.id)).state == "unresolved"
        await engine.commands.resolve(row.id)
        assert (await engine.ended(row.id)).state == "succeeded"
        assert toys.resumed == ["copy", "copy"]
        assert await engine.quarantine() == []
        with pytest.raises(WrongState):
            await engine.commands.resolve(row.id)


async def test_what_was_kept_is_again_what_it_was_when_there_is_a_verdict(
    rig: Rig, toys: Toys
) -> None:
    toys.fails("act copy", NoVerdict("the lease is gone"))
    create, attach, copy, *rest = stages(toys)["toy"].stages
    copy = replace(copy, kept=create.kept)
    async with rig.engine(toys.type(create, attach, copy, *rest)) as engine:
        row = await engine.run("toy", Spec())
        id = f"create of {row.id}"
        assert (await engine.read(lambda c: volumes.get(c, id))).state == "kept"
        await engine.commands.resolve(row.id)
        assert (await engine.ended(row.id)).state == "succeeded"
        assert (await engine.read(lambda c: volumes.get(c, id))).state == "ok"


async def test_clear_of_what_is_unresolved_counts_it_as_failed(rig: Rig, toys: Toys) -> None:
    toys.fails("act copy", NoVerdict("the lease is gone"))
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        await engine.commands.clear(row.id)
        row = await engine.ended(row.id)
        assert row.state == "failed"
        assert row.error
        assert "a person has cleared it" in row.error["message"]
        assert toys.there == set()


async def test_an_abort_is_seen_between_two_stages(rig: Rig, toys: Toys) -> None:
    toys.fails("act create", lambda run: run.abort_asked.set())
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        assert row.state == "aborted"
        assert toys.did == ["act create", "undo create"]


async def test_an_abort_is_not_lost_with_the_engine(rig: Rig, toys: Toys) -> None:
    begun = trio.Event()
    toys.fails("act create", begun)
    async with rig.engine(stages(toys)) as engine:
        id = await engine.commands.start("toy", Spec(), user="admin")
        await begun.wait()
        await engine.commands.abort(id)
    async with rig.engine(stages(toys)) as engine:
        assert (await engine.ended(id)).state == "aborted"
        assert toys.did == ["act create", "act create", "undo create"]
        assert toys.resumed == ["create"]


async def test_an_abort_after_the_final_stage_comes_too_late(rig: Rig, toys: Toys) -> None:
    toys.fails("act copy", lambda run: run.abort_asked.set())
    async with rig.engine(stages(toys)) as engine:
        assert (await engine.run("toy", Spec())).state == "succeeded"
        assert toys.did[-1] == "act forget"


async def test_what_has_ended_is_not_aborted(rig: Rig, toys: Toys) -> None:
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        with pytest.raises(WrongState):
            await engine.commands.abort(row.id)
        with pytest.raises(NoSuchObject):
            await engine.commands.abort("unknown")


async def test_a_command_is_in_nobodys_way_when_it_stands_still(rig: Rig, toys: Toys) -> None:
    """A fault of ours: its last transaction fails."""
    good = stages(toys)["toy"]

    def broken(c: Connection, run: Run) -> None:
        raise RuntimeError("a fault of ours")

    toys.fails("act create", OSError())
    types = {"toy": replace(good, withdraw=broken), "good": replace(good, name="good")}
    async with rig.engine(types) as engine:
        row = await engine.run("toy", Spec())
        assert row.state == "undoing"
        assert (await engine.run("good", Spec(disk=DISK.replace("3", "4")))).state == "succeeded"
    async with rig.engine(stages(toys)) as engine:
        assert (await engine.ended(row.id)).state == "failed"


async def test_a_database_that_is_gone_is_no_failure(rig: Rig, toys: Toys) -> None:
    toys.fails("act attach", DatabaseGone("no route"), DatabaseGone("no route"))
    toys.fails("act copy", OSError())
    toys.fails("undo attach", *[DatabaseGone("no route")] * 5)
    async with rig.engine(stages(toys)) as engine:
        row = await engine.run("toy", Spec())
        assert row.state == "failed"
        assert toys.did.count("act attach") == 3
        assert toys.resumed == ["attach", "attach"]
        assert await engine.quarantine() == []


async def test_what_the_begin_of_a_command_refuses_leaves_no_row(rig: Rig, toys: Toys) -> None:
    waits = trio.Event()
    toys.fails("act create", waits)
    async with rig.engine(stages(toys)) as engine:
        id = await engine.commands.start("toy", Spec(), user="admin")
        with pytest.raises(DiskLocked) as refused:
            await engine.commands.start("toy", Spec(), user="admin")
        assert refused.value.command == id
        assert [row.id for row in await all_commands(engine)] == [id]


# --- killed -------------------------------------------------------------------------------------

TABLE = stages(Toys())["toy"]
POINTS = dying.points(TABLE)


@over_databases(POINTS)
async def test_killed_anywhere_it_goes_on(
    rig: Rig, toys: Toys, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    failing = "undo" in point
    if failing:
        toys.fails("act copy", OSError("no cable"))
    with dies_at(monkeypatch, point) as passed:
        async with rig.killed(stages(toys)) as engine:
            await engine.run("toy", Spec())
    assert passed[-1] == point
    async with rig.engine(stages(toys)) as engine:
        [row] = await all_commands(engine)
        row = await engine.ended(row.id)
        assert row.state == ("failed" if failing else "succeeded")
        assert (await engine.read(lambda c: disks.get(c, DISK))).state == "ok"
        journal = await engine.journal(row.id)
        assert len(journal) == len(set(journal))  # and what goes with "done" was done once
    stage, where = point.split(":")[1:]
    assert toys.resumed == ([] if failing else [stage])
    again = 2 if where.endswith("after") else 1
    assert toys.did.count(f"{'undo' if failing else 'act'} {stage}") == again
    assert toys.there == (set() if failing else {one.name for one in TABLE.stages})


# --- whatever happens ---------------------------------------------------------------------------

FATES = st.sampled_from(
    [None, None, "killed before", "killed after", "fails late", "no verdict", "hopeless", "abort"]
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(FATES, max_size=12))
def test_whatever_happens_it_ends_and_clear_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory, plan: list[str | None]
) -> None:
    folder = tmp_path_factory.mktemp("engine")
    rig = Rig(f"sqlite:///{folder / 'engine.db'}", {ARRAY: None})  # type: ignore[dict-item]
    trio.run(_whatever, rig, list(plan))
    shutil.rmtree(folder)


async def _whatever(rig: Rig, plan: list[str | None]) -> None:
    toys = Toys(order=[_fate(one) for one in plan])
    for _ in range(len(plan) + 1):
        async with rig.killed(stages(toys)) as engine:
            found = await all_commands(engine)
            row = await (engine.ended(found[0].id) if found else engine.run("toy", Spec()))
            break
    else:
        raise AssertionError("it does not end")
    kept = {one.object.split(" ")[0] for one in await _quarantined(rig, toys)}
    made = toys.there & {one.name for one in TABLE.stages if one.undo is not None}
    match row.state:
        case "succeeded":
            assert kept <= {"clean", "forget"}
        case "failed" | "aborted":
            assert made == set()
        case "quarantined":
            assert made <= kept
        case _:
            assert row.state == "unresolved"
    toys.order.clear()
    async with rig.engine(stages(toys)) as engine:
        while row.state in ("unresolved", "quarantined"):
            await engine.commands.clear(row.id)
            row = await engine.ended(row.id)
        assert row.state == "succeeded" or not toys.there & made
        assert (await engine.read(lambda c: disks.get(c, DISK))).state == "ok"


async def _quarantined(rig: Rig, toys: Toys) -> list[Quarantined]:
    async with rig.engine(stages(toys)) as engine:
        return await engine.quarantine()


def _fate(one: str | None) -> object:
    match one:
        case "no verdict":
            return NoVerdict("nobody can tell")
        case "hopeless":
            return Hopeless("nobody can do it")
        case "abort":
            return lambda run: run.abort_asked.set()
    return one
