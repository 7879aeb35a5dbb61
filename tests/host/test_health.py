"""Health: can jobs be taken in? A disk that hangs keeps nobody waiting, and no second thread."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from host import health as module
from host.health import SILENT, Health, Look, written
from jobs.job import Job
from tests.host.test_metrics import never
from tests.host.verbs.a_host import SD, AHost, a_host
from tests.servers import WAIT


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[AHost]:
    async with a_host(tmp_path) as made:
        yield made


@pytest.fixture
def health(host: AHost) -> Health:
    return Health(host.host, fresh=0)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, str]]:
    """Level, of what, and reason of each line."""
    lines: list[tuple[int, str, str]] = []

    class Log:
        def log(self, level: int, event: str, *, of: str, reason: str) -> None:
            lines.append((level, of, reason))

    monkeypatch.setattr(module, "log", Log())
    return lines


async def test_a_new_agent_is_well(host: AHost, health: Health) -> None:
    report = await health.report()
    assert (report.status, report.well) == ("ok", True)
    assert report.facts == {
        "version": host.host.version,
        "jobs": {},
        "queue": {"waiting": 0, "running": 0, "concurrency": 2, "draining": False},
        "journal": {"writable": True},
        "storage": {"domains": 0, "unreadable": 0},
    }


async def test_one_that_is_drained_says_so_and_takes_jobs_in(host: AHost, health: Health) -> None:
    await host.call("Host.drain")
    job = Job("a", never, description="")
    host.host.agent.registry.add(job)
    host.host.agent.queue.submit(job)
    report = await health.report()
    assert (report.status, report.well) == ("draining", True)
    assert report.facts["queue"]["draining"] is True
    assert (report.facts["queue"]["waiting"], report.facts["jobs"]) == (1, {"pending": 1})
    await host.call("Host.resume")
    assert (await health.report()).facts["queue"]["draining"] is False


async def test_without_its_journal_it_is_failing_and_says_why(
    host: AHost, health: Health, logged: list[tuple[int, str, str]]
) -> None:
    journal = host.host.journal.path
    journal.rename(journal.with_name("away"))
    for _ in range(2):
        report = await health.report()
        assert (report.status, report.well) == ("failing", False)
        assert report.facts["journal"] == {
            "writable": False,
            "reason": "No such file or directory",
        }
    journal.with_name("away").rename(journal)
    assert (await health.report()).status == "ok"
    assert [line[1:] for line in logged] == [
        ("journal", "No such file or directory"),
        ("journal", "well again"),
    ]


async def test_a_look_leaves_nothing_in_the_journal(host: AHost, health: Health) -> None:
    before = sorted(host.host.journal.path.iterdir())
    assert (await health.report()).well
    assert sorted(host.host.journal.path.iterdir()) == before


def test_a_full_disk_is_noticed_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_domain_that_cannot_be_read_degrades_but_other_jobs_are_taken(
    host: AHost, health: Health, logged: list[tuple[int, str, str]]
) -> None:
    await host.domain()
    assert (await health.report()).facts["storage"] == {"domains": 1, "unreadable": 0}
    (host.mount / SD).rename(host.mount / "away")
    report = await health.report()
    assert (report.status, report.well) == ("degraded", True)
    assert report.facts["storage"] == {"domains": 1, "unreadable": 1}
    [(_, of, reason)] = logged
    assert (of, reason) == (f"storage domain {SD}", "StorageDomainDoesNotExist")
    assert SD not in str(report.facts)


# --- disks that hang --------------------------------------------------------------------------


class Hanging:
    """A disk that does not answer until it is let go."""

    def __init__(self) -> None:
        self.looks = 0
        self.go = threading.Event()

    def __call__(self) -> None:
        self.looks += 1
        assert self.go.wait(WAIT)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.go.set()


def look(call: Callable[[], Any], *, fresh: float = 0, answer_time: float = 0.05) -> Look:
    return Look("disk", call, fresh=fresh, answer_time=answer_time)


async def test_a_disk_that_hangs_is_silent_and_keeps_one_thread(hanging: Hanging) -> None:
    one = look(hanging)
    with trio.fail_after(WAIT):
        for _ in range(5):
            await one.again()
            assert one.reason == SILENT
    assert hanging.looks == 1
    hanging.go.set()
    with trio.fail_after(WAIT):
        while one.reason:
            await one.again()
    assert hanging.looks == 2


async def test_a_disk_that_hangs_takes_no_thread_from_others(hanging: Hanging) -> None:
    limiter = trio.to_thread.current_default_thread_limiter()
    many = [look(hanging) for _ in range(60)]
    with trio.fail_after(WAIT):
        async with trio.open_nursery() as nursery:
            for one in many:
                nursery.start_soon(one.again)
    assert limiter.borrowed_tokens == 0
    assert {one.reason for one in many} == {SILENT}


async def test_many_who_ask_look_once() -> None:
    looks = []
    one = look(lambda: looks.append(1), fresh=3600)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one.again)
    assert looks == [1]


async def test_who_asks_while_another_looks_waits_for_that_look(hanging: Hanging) -> None:
    one = look(hanging, fresh=3600, answer_time=WAIT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.again)
        nursery.start_soon(one.again)
        await trio.testing.wait_all_tasks_blocked()
        hanging.go.set()
    assert (hanging.looks, one.reason) == (1, "")


async def test_who_gives_up_leaves_a_look_that_others_can_make_again(hanging: Hanging) -> None:
    one = look(hanging, answer_time=WAIT)
    with trio.move_on_after(0.01) as scope:
        await one.again()
    assert scope.cancelled_caught
    hanging.go.set()
    with trio.fail_after(WAIT):
        await one.again()
    assert one.reason == ""
