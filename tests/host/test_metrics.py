"""Metrics: what is counted is what happened, and their number is bounded."""

import platform
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from host.config import Config, Folders
from host.dispatch import Dispatcher
from host.metrics import Metrics, measured
from host.outcome import KNOWN
from host.verbs.table import VERBS
from host.wire.call import Call, Peer
from jobs.job import Job, Report
from jobs.progress import Progress
from jobs.status import Status
from protocol.errors import BadParameter, JobExists, LeaseExists, NoSuchLease
from protocol.jsonrpc import MethodNotFound
from protocol.reported import Reported
from tests.faults.command import until
from tests.host.jobs import SLOW, Place, ended, moving
from tests.host.verbs.a_host import MIB, SD, AHost, a_host, external, lease
from tests.host.wire.serving import loopback, request, serving, talking
from tests.servers import WAIT

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
Samples = dict[str, float]  # by name and labels, as Prometheus shows them


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[AHost]:
    async with a_host(tmp_path) as made:
        yield made


@pytest.fixture
def metrics(host: AHost) -> Metrics:
    """Of the host, whose calls are measured."""
    made = Metrics(host.host, fresh=0)
    host.dispatch = measured(host.dispatch, made)  # type: ignore[assignment]
    return made


def scraped(metrics: Metrics) -> Samples:
    text, _ = metrics.text()
    families = text_string_to_metric_families(text.decode())
    return {shown(s.name, s.labels): s.value for family in families for s in family.samples}


def shown(name: str, labels: dict[str, str]) -> str:
    inner = ",".join(f"{key}={labels[key]}" for key in sorted(labels))
    return f"{name}{{{inner}}}" if inner else name


def grown(metrics: Metrics, before: Samples) -> Samples:
    """The counters that have grown; time apart."""
    now = scraped(metrics)
    return {
        name: now[name] - before.get(name, 0)
        for name in now
        if re.search(r"_(total|count)\b", name)
        and not name.startswith("process_")
        and now[name] != before.get(name, 0)
    }


# --- jobs -------------------------------------------------------------------------------------


@pytest.mark.tools("qemu-img")
async def test_a_copy_is_counted_while_it_runs_and_when_it_has_ended(
    host: AHost, metrics: Metrics
) -> None:
    await host.domain()
    job_id = await host.lease()
    (host.disks / "source").write_bytes(b"x" * 4 * MIB)
    (host.disks / "target").write_bytes(bytes(4 * MIB))
    before = scraped(metrics)
    assert before["leasehold_copied_bytes_total"] == 0
    assert before["leasehold_jobs_ended_total{status=done}"] == 0
    ends = {
        "source": external(host.disks / "source"),
        "destination": external(host.disks / "target", job_id),
    }
    await host.call("SDM.copy_data", job_id=job_id, **ends, limit=2 * MIB)
    job = host.host.agent.registry.get(job_id)
    await moving(job)
    while_it_runs = scraped(metrics)
    assert while_it_runs["leasehold_jobs{status=running}"] == 1
    assert while_it_runs["leasehold_queue_running"] == 1
    assert 0 < while_it_runs["leasehold_copied_bytes_total"] <= 4 * MIB
    await ended(job, Status.DONE)
    assert scraped(metrics)["leasehold_copied_bytes_total"] == 4 * MIB
    assert grown(metrics, before) == {
        "leasehold_copied_bytes_total": 4 * MIB,
        "leasehold_jobs_ended_total{status=done}": 1,
        "leasehold_calls_total{code=0,method=SDM.copy_data}": 1,
        "leasehold_call_duration_seconds_count{method=SDM.copy_data}": 1,
    }


async def test_bytes_of_a_job_that_is_forgotten_stay_counted(host: AHost, metrics: Metrics) -> None:
    registry = host.host.agent.registry
    for name, amount in (("a", 10), ("b", 5)):

        async def work(report: Report, amount: int = amount) -> None:
            for done in (amount // 2, amount, amount - 1):
                report(Progress(bytes=done))
                scraped(metrics)

        async with trio.open_nursery() as nursery:
            registry.start(Job(name, work, description=""), nursery)
        registry.delete(name)
    found = scraped(metrics)
    assert found["leasehold_copied_bytes_total"] == 15
    assert found["leasehold_jobs_ended_total{status=done}"] == 2
    assert found["leasehold_jobs{status=done}"] == 0


async def test_rates_of_running_jobs_are_added_up(host: AHost, metrics: Metrics) -> None:
    moved, over = trio.Event(), trio.Event()

    async def work(report: Report) -> None:
        report(Progress(rate=1.5))
        moved.set()
        await over.wait()

    async with trio.open_nursery() as nursery:
        for name in ("a", "b"):
            host.host.agent.registry.start(Job(name, work, description=""), nursery)
        await moved.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert scraped(metrics)["leasehold_copy_rate_bytes_per_second"] == 3
        over.set()
    assert scraped(metrics)["leasehold_copy_rate_bytes_per_second"] == 0


@pytest.mark.tools("qemu-img")
async def test_what_a_former_life_of_the_agent_has_copied_is_not_counted_again(
    place: Place,
) -> None:
    async with place.agent() as agent:
        job = await agent.submit(await place.spec(limit=SLOW))
        await moving(job)
    async with a_host(place.folder, place_config(place)) as host:
        metrics = Metrics(host.host, fresh=0)
        job = host.host.agent.registry.get(job.id)
        await moving(job)
        first = job.progress.bytes
        assert first
        assert scraped(metrics)["leasehold_copied_bytes_total"] == 0
        await moving(job, first + 1)
        now = job.progress.bytes
        assert scraped(metrics)["leasehold_copied_bytes_total"] == (now or 0) - first
        await host.call("Job.abort", job_id=job.id)
        await ended(job, Status.ABORTED)


def place_config(place: Place) -> Config:
    return Config(folders=Folders(state=str(place.folder / "state"), jobs=str(place.journal.path)))


async def test_a_job_that_fails_is_an_error_with_its_code(host: AHost, metrics: Metrics) -> None:
    errors = [NoSuchLease("x"), Reported({"code": 4242424242, "message": "new"}), OSError("no")]

    async def work(report: Report) -> None:
        raise errors.pop()

    before = scraped(metrics)
    async with trio.open_nursery() as nursery:
        for name in ("a", "b", "c"):
            host.host.agent.registry.start(Job(name, work, description=""), nursery)
    assert grown(metrics, before) == {
        "leasehold_jobs_ended_total{status=failed}": 3,
        f"leasehold_errors_total{{code={NoSuchLease.code},source=job}}": 1,
        "leasehold_errors_total{code=other,source=job}": 1,
        "leasehold_errors_total{code=100,source=job}": 1,
    }


async def test_the_queue_is_seen_as_it_is(host: AHost, metrics: Metrics) -> None:
    queue = host.host.agent.queue
    names = ("waiting", "running", "concurrency", "paused", "limit_bytes_per_second")

    def seen() -> list[float]:
        found = scraped(metrics)
        return [found[f"leasehold_queue_{name}"] for name in names]

    assert seen() == [0, 0, 2, 0, float("inf")]
    await host.call("Host.drain")
    queue.total, queue.concurrency = 5000, 7
    queue.submit(Job("a", never, description=""))
    assert seen() == [1, 0, 7, 1, 5000]


async def never(report: Report) -> None:
    await trio.sleep_forever()


async def test_events_that_nobody_reads_are_counted(host: AHost, metrics: Metrics) -> None:
    registry = host.host.agent.registry
    with registry.subscribe(backlog=1):
        async with trio.open_nursery() as nursery:
            registry.start(Job("a", nothing, description=""), nursery)
    assert scraped(metrics)["leasehold_events_lost_total"] == 1


async def nothing(report: Report) -> None:
    pass


# --- calls ------------------------------------------------------------------------------------


async def test_a_lease_operation_is_counted_by_verb_with_the_code_of_its_task(
    host: AHost, metrics: Metrics
) -> None:
    await host.domain()
    before = scraped(metrics)
    job_id = await host.lease()
    await host.task("Lease.create", lease=lease(job_id))
    with pytest.raises(NoSuchLease):
        await host.call("Lease.status", lease=lease(SD))
    found = {name: number for name, number in grown(metrics, before).items() if "Task." not in name}
    codes = {"made": 0, "there": LeaseExists.code, "missing": NoSuchLease.code}
    assert found == {
        "leasehold_calls_total{code=0,method=Lease.create}": 2,
        "leasehold_call_duration_seconds_count{method=Lease.create}": 2,
        f"leasehold_calls_total{{code={codes['missing']},method=Lease.status}}": 1,
        "leasehold_call_duration_seconds_count{method=Lease.status}": 1,
        "leasehold_lease_operations_total{code=0,verb=create}": 1,
        f"leasehold_lease_operations_total{{code={codes['there']},verb=create}}": 1,
        f"leasehold_lease_operations_total{{code={codes['missing']},verb=status}}": 1,
        "leasehold_lease_operation_duration_seconds_count{verb=create}": 2,
        "leasehold_lease_operation_duration_seconds_count{verb=status}": 1,
        f"leasehold_errors_total{{code={codes['there']},source=task}}": 1,
        f"leasehold_errors_total{{code={codes['missing']},source=call}}": 1,
    }


async def test_a_task_that_was_forgotten_meanwhile_hurts_nobody(metrics: Metrics) -> None:
    call = Call("Lease.create", {}, "", Peer("engine", "me"))
    metrics.calls.ended(call, 0.1, "gone", None)
    assert scraped(metrics)["leasehold_lease_operations_total{code=0,verb=create}"] == 1


async def test_a_call_takes_as_long_as_it_takes(host: AHost, metrics: Metrics) -> None:
    clock = iter([7.0, 7.3])
    host.dispatch = measured(Dispatcher(host.host), metrics, now=lambda: next(clock))  # type: ignore[assignment]
    await host.call("Host.ping2")
    found = scraped(metrics)
    name = "leasehold_call_duration_seconds"
    assert found[f"{name}_sum{{method=Host.ping2}}"] == pytest.approx(0.3)
    assert found[f"{name}_bucket{{le=0.25,method=Host.ping2}}"] == 0
    assert found[f"{name}_bucket{{le=0.5,method=Host.ping2}}"] == 1


async def test_a_call_that_is_given_up_is_counted_and_stays_cancelled(metrics: Metrics) -> None:
    async def endless(call: Call) -> None:
        await trio.sleep_forever()

    with trio.move_on_after(0) as scope:
        await measured(endless, metrics)(Call("Host.drain", {}, "", Peer("engine", "me")))
    assert scope.cancelled_caught
    assert scraped(metrics)["leasehold_calls_total{code=cancelled,method=Host.drain}"] == 1


async def test_the_error_of_a_call_passes_as_it_is(host: AHost, metrics: Metrics) -> None:
    with pytest.raises(BadParameter):
        await host.call("Job.info")
    found = scraped(metrics)
    assert found["leasehold_calls_total{code=1000,method=Job.info}"] == 1
    assert found["leasehold_errors_total{code=1000,source=call}"] == 1


# --- bounds -----------------------------------------------------------------------------------


async def test_a_thousand_methods_that_nobody_knows_are_one_label(
    host: AHost, metrics: Metrics
) -> None:
    before = scraped(metrics)
    for number in range(1000):
        with pytest.raises(MethodNotFound):
            await host.call(f'Lease.x{number}"}} 1\nforged 1')
    assert grown(metrics, before) == {
        "leasehold_calls_total{code=-32601,method=unknown}": 1000,
        "leasehold_call_duration_seconds_count{method=unknown}": 1000,
        "leasehold_errors_total{code=-32601,source=call}": 1000,
    }


async def test_whatever_is_called_and_fails_the_labels_are_bounded(
    host: AHost, metrics: Metrics
) -> None:
    failing: list[Any] = []

    async def fail(call: Call) -> None:
        raise failing.pop()

    dispatch = measured(fail, metrics)
    for number in range(-40_000, 10_000, 7):
        failing.append(Reported({"code": number, "message": ""}))
        with pytest.raises(Reported):
            await dispatch(Call(f"Lease.{number}", {}, "", Peer("engine", "me")))
    for name in VERBS:
        failing.append(JobExists("x"))
        with pytest.raises(JobExists):
            await dispatch(Call(name, {}, "", Peer("engine", "me")))
    allowed = {
        "code": {*KNOWN, "0", "other", "cancelled"},
        "method": {*VERBS, "unknown"},
        "verb": {name.removeprefix("Lease.") for name in VERBS if name.startswith("Lease.")},
        "status": {status.value for status in Status},
        "role": {"engine", "monitor"},
        "source": {"call", "task", "job"},
    }
    for family in metrics.registry.collect():
        for sample in family.samples:
            for label in sample.labels.keys() & allowed.keys():
                assert sample.labels[label] in allowed[label], sample


# --- clients ----------------------------------------------------------------------------------


async def test_clients_and_what_they_make_the_agent_keep_are_seen(
    host: AHost, metrics: Metrics
) -> None:
    begun, go = trio.Event(), trio.Event()

    async def slow(call: Call) -> None:
        begun.set()
        await go.wait()

    assert scraped(metrics)["leasehold_sessions{role=monitor}"] == 0
    async with serving(slow, doors=await loopback()) as (server, address):
        metrics.server = server
        async with talking(address) as client:
            found = scraped(metrics)
            assert found["leasehold_sessions{role=monitor}"] == 1
            assert found["leasehold_sessions{role=engine}"] == 0
            assert found["leasehold_calls_in_flight"] == 0
            await client.say(request(b'{"jsonrpc":"2.0","method":"Host.ping2","id":1}'))
            await begun.wait()
            found = scraped(metrics)
            assert found["leasehold_calls_in_flight"] == 1
            assert found["leasehold_session_memory_bytes"] > 0
            go.set()
            assert await client.frame()
        await until(lambda: not server.sessions)
    found = scraped(metrics)
    assert found["leasehold_calls_in_flight"] == found["leasehold_session_memory_bytes"] == 0


# --- the whole --------------------------------------------------------------------------------


async def test_docs_list_every_metric_with_its_type_and_its_labels(
    host: AHost, metrics: Metrics
) -> None:
    await host.domain()
    await host.lease()
    await host.task("Lease.create", lease=lease(await host.lease()))
    text = DOCS.read_text().partition("\n## Metrics\n")[2]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|(.*?)\| .+ \|$", text, re.MULTILINE)
    listed = {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows
    }
    assert len(listed) == len(rows)
    found = {}
    for family in metrics.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert family.samples, f"{name} is not seen here"
        found[name] = (family.type, frozenset(labels))
    assert listed == found


async def test_names_follow_the_conventions_of_prometheus(metrics: Metrics) -> None:
    for family in metrics.registry.collect():
        assert re.fullmatch(r"(leasehold|process)_[a-z_]+[a-z]", family.name)
        assert family.documentation.endswith(".")
        assert not family.name.endswith(("_ms", "_milliseconds", "_kb", "_mb", "_percent"))
        assert not [one.name for one in family.samples if one.name.endswith("_created")]


async def test_nothing_is_in_the_registry_of_the_whole_process(metrics: Metrics) -> None:
    assert not [one for one in REGISTRY.collect() if one.name.startswith("leasehold")]


async def test_the_version_and_the_start_are_told(host: AHost, metrics: Metrics) -> None:
    found = scraped(metrics)
    about = f"python={platform.python_version()},version={host.host.version}"
    assert found[f"leasehold_build_info{{{about}}}"] == 1
    assert 0 <= time.time() - found["leasehold_start_time_seconds"] < WAIT


async def test_who_asks_often_gets_the_same_again(host: AHost) -> None:
    now = 5.0
    metrics = Metrics(host.host, fresh=1, now=lambda: now)
    first, kind = metrics.text()
    assert kind.startswith("text/plain")
    host.host.agent.queue.concurrency += 1
    now = 5.9
    assert metrics.text()[0] == first
    other, kind = metrics.text("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert other.endswith(b"# EOF\n")
    now = 6.0
    assert metrics.text()[0] != first
