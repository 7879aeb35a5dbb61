"""What a client has activated the agent joins again: it never gives up, and clients go first."""

import threading
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from endpoints.domain import lockspace_of
from host import domains, memberships
from host.memberships import keep_joined
from leases import daemon, lockspace
from leases.daemon import Membership
from leases.joining import Member
from leases.membership import membership
from protocol.errors import AcquireHostIdFailure, SanlockUnavailable
from tests.host.verbs.a_host import SD, AHost, a_host
from tests.sanlock_hosts import IO_TIMEOUT, Hosts
from tests.servers import LOOK, WAIT

OTHER = str(uuid.uuid4())


@dataclass
class Daemon:
    """One that is not there. joined: host ids by domain. fails: what joining raises, if not None.

    hangs: joining does.
    """

    joined: dict[str, int] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    fails: Callable[[], Exception | None] = lambda: None
    hangs: bool = False

    async def asked(self, what: object) -> list[Membership]:
        assert what == daemon.memberships
        return [Membership(sd_id, one, "", True) for sd_id, one in self.joined.items()]

    async def join(self, space: Any, host_id: int, **options: Any) -> Member:
        assert options.keys() == {"without_watchdog", "warn"}
        assert options["without_watchdog"] is True
        self.tried.append(space.sd_id)
        if self.hangs:
            await trio.sleep_forever()
        if error := self.fails():
            raise error
        self.joined[space.sd_id] = host_id
        return Member(host_id, "a", 2, 1)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    made = Daemon()
    monkeypatch.setattr(memberships, "asked", made.asked)
    monkeypatch.setattr(lockspace, "join", made.join)
    impatient(monkeypatch)
    return made


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"LOOK": 0.01, "FIRST_WAIT": 0.01, "LAST_WAIT": 0.04}.items():
        monkeypatch.setattr(memberships, name, seconds)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[AHost]:
    """It has activated the domain SD, formatted for sanlock, as host 7."""
    async with a_host(tmp_path) as made:
        await made.domain(store="sanlock")
        await activated(made, SD)
        yield made


async def activated(host: AHost, sd_id: str) -> None:
    await host.host.domains.remember(await host.host.domains.load(sd_id), 7)


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(WAIT):
        while not condition():  # noqa: ASYNC110 - the world outside has no events
            await trio.sleep(LOOK)


async def test_what_was_activated_is_joined_again_whenever_it_is_left(
    host: AHost, fake: Daemon, nursery: trio.Nursery
) -> None:
    nursery.start_soon(keep_joined, host.host)
    for _ in range(3):
        await until(lambda: fake.joined == {SD: 7})
        fake.joined.clear()  # the daemon dies, and another one is started
    assert set(fake.tried) == {SD}


async def test_a_host_without_such_domains_asks_no_daemon(
    host: AHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody(what: object) -> list[Membership]:
        raise AssertionError

    monkeypatch.setattr(memberships, "asked", nobody)
    await host.host.domains.forget_host_id(SD)
    with trio.move_on_after(0.1) as scope:
        await keep_joined(host.host)
    assert scope.cancelled_caught


async def test_what_is_being_joined_or_left_by_somebody_else_is_left_to_that(
    host: AHost, fake: Daemon, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    looks = 0

    async def between(what: object) -> list[Membership]:
        nonlocal looks
        looks += 1
        return [Membership(SD, 7, "", joined=False)]

    monkeypatch.setattr(memberships, "asked", between)
    nursery.start_soon(keep_joined, host.host)
    await until(lambda: looks > 3)
    assert fake.tried == []


@pytest.mark.parametrize(
    "error",
    [
        AcquireHostIdFailure(SD, "join", "processes of this host can still write: 12"),
        SanlockUnavailable("/run/sanlock", "none"),
        OSError(5, "Input/output error"),
        RuntimeError("a fault of ours"),
    ],
)
async def test_a_failure_is_told_once_and_tried_again_ever_more_seldom(
    host: AHost, fake: Daemon, error: Exception, nursery: trio.Nursery
) -> None:
    tries = iter([error] * 5)
    fake.fails = lambda: next(tries, None)
    with structlog.testing.capture_logs() as logs:
        nursery.start_soon(keep_joined, host.host)
        await until(lambda: fake.joined == {SD: 7})
        await until(lambda: logs[-1]["event"] == "joined again")
    failures = [one for one in logs if one["event"] == "not joined again"]
    assert [one["again_in"] for one in failures] == [0.01, 0.02, 0.04, 0.04, 0.04]
    assert [one["log_level"] for one in failures] == ["warning"] + ["debug"] * 4
    assert all(one["reason"] == str(error) and one["domain"] == SD for one in failures)


async def test_a_daemon_that_does_not_answer_does_not_end_it(
    host: AHost, fake: Daemon, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    async def none(what: object) -> list[Membership]:
        raise SanlockUnavailable("/run/sanlock", "none")

    monkeypatch.setattr(memberships, "asked", none)
    nursery.start_soon(keep_joined, host.host)
    await until(lambda: len(fake.tried) > 2)


async def test_storage_that_hangs_delays_no_other_domain(
    host: AHost, fake: Daemon, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """It is asked again after a time, and keeps no more than two threads."""
    await host.domain(storagedomainID=OTHER, store="sanlock")
    await activated(host, OTHER)
    answers, looks, real = threading.Event(), 0, domains.read

    def read(sd_id: str, folder: str) -> Any:
        nonlocal looks
        if sd_id == SD:
            looks += 1
            answers.wait()
        return real(sd_id, folder)

    monkeypatch.setattr(domains, "read", read)
    monkeypatch.setattr(memberships, "ANSWER_TIME", 0.05)
    try:
        with structlog.testing.capture_logs() as logs:
            nursery.start_soon(keep_joined, host.host)
            await until(lambda: fake.joined == {OTHER: 7})
            await until(lambda: len([1 for one in logs if one.get("domain") == SD]) > 3)
        assert "not answered" in next(one["reason"] for one in logs if one.get("domain") == SD)
        assert looks == 2
    finally:
        answers.set()
    await until(lambda: fake.joined == {OTHER: 7, SD: 7})


async def test_joining_that_hangs_is_tried_again(
    host: AHost, fake: Daemon, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    monkeypatch.setattr(memberships, "JOIN_TIME", 0.05)
    fake.hangs = True
    nursery.start_soon(keep_joined, host.host)
    await until(lambda: len(fake.tried) > 2)
    fake.hangs = False
    await until(lambda: fake.joined == {SD: 7})


async def test_the_agent_formats_no_lockspace_by_itself(
    host: AHost, fake: Daemon, nursery: trio.Nursery
) -> None:
    """It was erased: others may be in it, and only people know."""
    ids = host.mount / SD / "dom_md" / "ids"
    ids.write_bytes(b"")
    with structlog.testing.capture_logs() as logs:
        nursery.start_soon(keep_joined, host.host)
        await until(lambda: logs)
    assert "erased" in logs[0]["reason"]
    assert fake.tried == []
    assert ids.read_bytes() == b""


async def test_a_client_that_deactivates_the_domain_ends_the_tries(
    host: AHost, fake: Daemon, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[str] = []

    async def leave(space: Any) -> None:
        left.append(space.sd_id)

    async def not_joined(space: Any) -> None:
        """The binding is not asked, which would choose its daemon for good."""

    monkeypatch.setattr(lockspace, "leave", leave)
    monkeypatch.setattr("endpoints.domain.membership", not_joined)
    fake.hangs = True
    nursery.start_soon(keep_joined, host.host)
    await until(lambda: fake.tried == [SD])
    with trio.fail_after(WAIT):
        await host.call("StorageDomain.deactivate", storagedomainID=SD)
    assert left == [SD]
    assert SD not in host.host.turns._own
    fake.hangs = False
    await trio.sleep(0.1)
    assert (fake.tried, fake.joined) == ([SD], {})


async def test_what_a_client_has_deactivated_meanwhile_is_not_joined(
    host: AHost, fake: Daemon, nursery: trio.Nursery
) -> None:
    """The agent waits for its turn while the client's call goes on."""
    turns = host.host.turns
    async with turns.of_client(SD):
        nursery.start_soon(keep_joined, host.host)
        await until(lambda: turns._lock(SD).statistics().tasks_waiting)
        await host.host.domains.forget_host_id(SD)
    await trio.sleep(0.1)
    assert fake.tried == []


@pytest.mark.parametrize("host_id", [7, 3])
async def test_a_client_that_activates_the_domain_does_not_wait_for_the_agent(
    host: AHost, fake: Daemon, nursery: trio.Nursery, host_id: int
) -> None:
    fake.hangs = True
    nursery.start_soon(keep_joined, host.host)
    await until(lambda: fake.tried == [SD])
    fake.hangs = False
    with trio.fail_after(WAIT):
        await host.call("StorageDomain.activate", storagedomainID=SD, host_id=host_id)
    assert fake.joined == {SD: host_id}
    assert host.host.domains.host_ids == {SD: host_id}
    assert (SD in host.host.turns._own) == (host_id == 7)  # as it was told before: let it go on


@pytest.mark.tools("sanlock")
async def test_a_host_that_was_thrown_out_joins_again_until_it_is_deactivated(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    impatient(monkeypatch)
    async with a_host(tmp_path) as host:
        await host.domain(store="sanlock", io_timeout=IO_TIMEOUT)
        await host.call("StorageDomain.activate", storagedomainID=SD, host_id=hosts.a.host_id)
        domain = await host.host.domains.load(SD)
        space = lockspace_of(domain)
        nursery.start_soon(keep_joined, host.host)
        await trio.to_thread.run_sync(hosts.a.leave, SD, Path(domain.ids))
        with trio.fail_after(WAIT):
            while not ((found := await membership(space)) and found.joined):  # noqa: ASYNC110
                await trio.sleep(LOOK)
        assert found.host_id == hosts.a.host_id
        await host.call("StorageDomain.deactivate", storagedomainID=SD)
        await trio.sleep(0.2)
        assert await membership(space) is None
