"""The sanlock daemon of a host dies or stops under its jobs: they end, and what they say is true.

Times: at io_timeout 1.
"""

import signal
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.faults.command import Process, new_job_id, until
from tests.faults.disks import fuse_file
from tests.faults.shared import (
    IMPATIENT,
    LIMIT,
    Shared,
    before,
    held_back,
    kill_daemon,
    shared,
    stop_daemon,
)
from tests.servers import pausable

pytestmark = pytest.mark.tools("sanlock")

AT_ONCE = 5.0  # seconds; it takes 0.1


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Shared]:
    with shared(tmp_path) as made:
        yield made


async def test_a_daemon_that_dies_in_the_middle_of_a_copy_ends_it_at_once(both: Shared) -> None:
    """Nothing is recorded. Once the host has joined again the job is taken up where it was."""
    job_id = new_job_id()
    by_alarm = "import leases.grant; leases.grant._WATCH_SECONDS = 60"  # not by looking each second
    with both.copying(both.a, job_id, "--limit", "200K", before=by_alarm) as running:
        await both.in_the_middle(running)
        both.a.kill()
        told = await running.wait(AT_ONCE)
    assert told.code == 1, told
    assert f"lease {job_id} lost: the sanlock daemon of this host has ended" in told.err
    for way_out in ("leasehold host join SD", f"lease status {both.domain.id} {job_id}"):
        assert way_out in told.err, told
    await both.leasehold.nothing_left()
    there_is_none = await both.copied(both.a, job_id, "--json")
    assert (there_is_none.code, there_is_none.error["kind"]) == (5, "SanlockUnavailable")
    assert await both.said(both.b, job_id) == ([1], None)
    refused = await both.fence(both.b, job_id)  # and not after a minute in the daemon
    assert (refused.code, refused.error["code"]) == (6, 651)
    await both.revived(both.a)
    assert await both.until_free(both.b, job_id) == "PENDING"
    done = await both.copied(both.a, job_id)
    assert done.code == 0, done
    assert both.equal()
    assert await both.said(both.b, job_id) == ([], "SUCCEEDED")


@dataclass(frozen=True)
class Moment:
    """function: the daemon dies just before it. code, kind: of the error. leaves: the job's status
    in the lease once that is free; None: there is no lease."""

    function: str
    code: int
    kind: str
    leaves: str | None


MOMENTS = {
    "before the lease is published": Moment("leases.change:write", 6, "LeaseLost", None),
    "as the lease is published": Moment(
        "leases.volume:LeaseVolume.write_records", 6, "LeaseLost", "PENDING"
    ),
    "before the lease is acquired": Moment(
        "endpoints.tracked:hold", 1, "SanlockUnavailable", "PENDING"
    ),
    "before the lease is given back": Moment(
        "leases.hold:_released", 1, "ReleaseLockFailure", "SUCCEEDED"
    ),
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", MOMENTS)
async def test_whenever_the_daemon_dies_the_copy_can_be_taken_up_when_it_is_back(
    name: str, both: Shared
) -> None:
    moment, job_id = MOMENTS[name], new_job_id()
    dying = before(moment.function, kill_daemon(both.a))
    told = await both.copied(both.a, job_id, "--json", before=dying)
    assert (told.code, told.error["kind"]) == (moment.code, moment.kind), told
    await both.leasehold.nothing_left()
    assert both.equal() == (moment.leaves == "SUCCEEDED")
    both.a.kill()
    await both.revived(both.a)
    assert await both.there(both.b, job_id) == (moment.leaves is not None)
    if moment.leaves is not None:
        assert await both.until_free(both.b, job_id) == moment.leaves
    again = await both.copied(both.a, job_id, "--json")
    if moment.leaves == "SUCCEEDED":
        assert (again.code, again.error["code"]) == (6, 912)
    else:
        assert again.code == 0, again
        assert both.equal()


async def test_a_loss_that_is_seen_after_the_success_was_recorded_takes_nothing_back(
    both: Shared,
) -> None:
    """What the command says is what the lease will say; only that it is free is not known."""
    job_id = new_job_id()
    noticed = f"""
import endpoints.tracked, leases.grant, trio
leases.grant._WATCH_SECONDS = 0.01
succeed = endpoints.tracked.TrackedLease.succeed
def die():
{textwrap.indent(kill_daemon(both.a), "    ")}
async def instead(self, grant):
    await succeed(self, grant)
    die()
    await trio.sleep(1)
endpoints.tracked.TrackedLease.succeed = instead
"""
    told = await both.copied(both.a, job_id, before=noticed)
    assert told.code == 1, told
    assert f"cannot release {job_id}" in told.err
    assert "lost" not in told.err
    assert both.equal()
    both.a.kill()
    await both.revived(both.a)
    assert await both.until_free(both.b, job_id) == "SUCCEEDED"


@pytest.mark.tools("nbdkit", "nbdfuse")
async def test_a_host_joins_again_when_the_last_writer_of_its_former_life_is_gone(
    both: Shared, tmp_path: Path
) -> None:
    """The copy tool is killed while the kernel waits for an answer of the target's server: it
    cannot end before that."""
    job_id = new_job_id()
    with pausable(tmp_path, both.target) as server, fuse_file(server, tmp_path) as target:
        with both.copying(both.a, job_id, "--limit", LIMIT, target=target) as running:
            await both.in_the_middle(running)
            with held_back(server):
                await until(lambda: any(map(stuck, tools(both, target))))
                [tool] = tools(both, target)
                both.a.kill()
                await running.kill()
                await trio.to_thread.run_sync(both.a.start)
                refused = await both.join(both.a, before=IMPATIENT)
                assert (refused.code, refused.error["code"]) == (6, 661), refused
                assert f"former membership: {tool.pid};" in refused.error["message"]
                fence = await both.fence(both.b, job_id)
                assert (fence.code, fence.error["code"]) == (6, 651)
        joined = await both.join(both.a)
        assert joined.code == 0, joined
        await both.leasehold.alone()
    assert await both.until_free(both.b, job_id) == "PENDING"
    fence = await both.fence(both.b, job_id)
    assert fence.code == 0, fence
    assert await both.said(both.b, job_id) == ([], "FENCED")


def tools(of: Shared, target: Path) -> set[Process]:
    return set(of.leasehold.tools("qemu-img", target))


def stuck(process: Process) -> bool:
    """Does a thread of it wait for the kernel, deaf to signals? Source: proc(5), state D."""
    states = []
    for thread in Path(f"/proc/{process.pid}/task").glob("*/stat"):
        with suppress(OSError):
            states.append(thread.read_text().rpartition(")")[2].split()[0])
    return "D" in states


@pytest.mark.parametrize(
    ("before_it", "seconds"), [(IMPATIENT, 1), pytest.param("", 10, marks=pytest.mark.full)]
)
async def test_a_lease_that_a_stopped_daemon_does_not_take_back_says_succeeded(
    before_it: str, seconds: int, both: Shared
) -> None:
    """The daemon stops after the result was recorded. The command does not wait for it, and does
    not say that the copy is done: nobody else can have the lease yet."""
    job_id = new_job_id()
    stopping = before_it + before("leases.hold:_released", stop_daemon(both.a))
    told = await both.copied(both.a, job_id, before=stopping)
    assert told.code == 1, told
    assert f"cannot release {job_id}: no answer in {seconds} s" in told.err
    assert "when its lease is free and says SUCCEEDED, the copy is complete" in told.err
    await both.leasehold.nothing_left()
    assert both.equal()
    assert await both.said(both.b, job_id) == ([1], None)
    both.a.signal(signal.SIGCONT)
    assert await both.until_free(both.b, job_id) == "SUCCEEDED"
