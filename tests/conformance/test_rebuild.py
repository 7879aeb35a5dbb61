"""A rebuild while other processes use the leases."""

import random
import signal

import trio

from leases import verbs
from leases.store import Store
from tests.conformance.child import SPOILED, job_id
from tests.conformance.conftest import Start
from tests.conformance.leases import (
    JOB,
    check_volume,
    create,
    fence,
    job_status,
    until_free,
    write_record,
)

IDLE = 8


async def idle_leases(store: Store) -> list[str]:
    """Leases of which nobody wants anything; their records are spoiled again and again."""
    names = [job_id(f"idle-{number}") for number in range(IDLE)]
    for name in names:
        await create(store, name)
    return names


async def test_a_rebuild_beside_whole_lives_of_leases_disturbs_none_and_loses_none(
    store: Store, start: Start
) -> None:
    """Creates, fences and deletes, holds with writes, damage, and two rebuilds: all at once."""
    idle = await idle_leases(store)
    held = await create(store)
    await create(store, job_id("cycled"))
    holder = start("hold_it", JOB)
    holder.ready()
    write_record(store, held, SPOILED)
    spoiler = start("damage", "idle", str(IDLE))
    rebuilds = [start("rebuild") for _ in range(2)]
    for other in (spoiler, *rebuilds):
        other.ready()
    users = [start("churn", name, "15") for name in "ab"]
    users += [start("create", "made", "10"), start("cycle", job_id("cycled"), "60")]
    for user in users:
        user.ready()
    assert [user.end() for user in users] == [0] * len(users)
    assert spoiler.end() == 0
    brought_back = 0
    for rebuild in rebuilds:
        out, _ = await trio.to_thread.run_sync(rebuild.popen.communicate)
        assert rebuild.popen.returncode == 0
        brought_back += int(out.split()[-1])
    await verbs.rebuild(store, now=4)
    assert brought_back > 1  # it was not idle itself, on a slow machine either
    assert (await verbs.status(store, JOB)).owners
    assert holder.end() == 0
    await until_free(store)
    assert (await verbs.status(store, JOB)).metadata == {"held": "here"}
    made = [job_id(f"made-{number}") for number in range(10)]
    there = {lease.lease_id for lease in await verbs.leases(store)}
    assert there == {*idle, *made, JOB, job_id("cycled")}
    for name in (*idle, *made):
        assert await job_status(store, name) == "PENDING"
    assert (await verbs.status(store, job_id("cycled"))).metadata == {"number": 59}
    await check_volume(store)


async def test_rebuilds_killed_at_random_beside_users_leave_a_volume_in_order(
    store: Store, start: Start
) -> None:
    chance = random.Random(4711)
    idle = await idle_leases(store)
    spoiler = start("damage", "idle", str(IDLE))
    spoiler.ready()
    user = start("churn", "a", "40")
    user.ready()
    killed = 0
    while user.popen.poll() is None and killed < 8:
        rebuild = start("rebuild")
        rebuild.ready()
        await trio.sleep(chance.uniform(0, 0.05))
        rebuild.kill()
        assert rebuild.popen.returncode == -signal.SIGKILL
        killed += 1
    assert killed > 0
    assert user.end() == 0
    assert spoiler.end() == 0
    await verbs.rebuild(store, now=4)
    assert {lease.lease_id for lease in await verbs.leases(store)} == set(idle)
    for name in idle:
        await fence(store, name)
        await verbs.delete(store, name)
    assert await verbs.leases(store) == []
    await check_volume(store)
