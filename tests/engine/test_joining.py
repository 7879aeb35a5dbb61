"""Hosts join the data domains: who, with which host id, how often, and who is left out."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from engine.capabilities import Capabilities, Membership
from engine.db import domains, host_ids, hosts
from engine.db.database import Database
from engine.db.domains import Domain
from engine.db.hosts import Host
from engine.db.secrets import Key
from engine.fleet import Fleet, fleet
from engine.host_states import LinkState
from engine.host_view import HostView
from engine.joining import Joining, Pair, joined, missing
from engine.links import Times
from protocol.errors import (
    AcquireHostIdFailure,
    SanlockUnavailable,
    StorageDomainDoesNotExist,
)
from tests.engine.stand_in import SILENT, StandIn, capabilities, stand_in, until

SD = "1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"
OTHER = "2dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"
DATA = Domain(SD, "data", "data", path="/mnt")
QUICK = Times(grace=0.3, pauses=(0.01, 0.02), refresh=0.05)
SANLOCK = ("embedded", "sanlock")


# --- pure ---------------------------------------------------------------------------------------


def view(id: str = "h", *, up: bool = True, **told: Any) -> HostView:
    facts = Capabilities("u", **{"stores": SANLOCK, **told})
    state = LinkState.UP if up else LinkState.NON_RESPONSIVE
    return HostView(id, id, state, "", up, False, facts)


def test_a_host_that_is_up_is_to_join_an_active_data_domain() -> None:
    assert missing([DATA], [view()]) == {Pair("h", SD): DATA}


@pytest.mark.parametrize(
    ("row", "host"),
    [
        (DATA, view(up=False)),
        (DATA, replace(view(), maintenance=True)),
        (DATA, replace(view(), capabilities=None)),
        (DATA, view(domains={SD: Membership(4, "joined")})),
        (DATA, view(domains={SD: Membership(state="alone")})),
        (replace(DATA, state="maintenance"), view()),
        (replace(DATA, kind="managed_block_storage", path=None), view()),
    ],
    ids=range(7),
)
def test_nobody_else_is(row: Domain, host: HostView) -> None:
    assert missing([row], [host]) == {}


def test_who_has_joined_is_known_by_what_hosts_say() -> None:
    views = [
        view("a", domains={SD: Membership(4, "joined"), "x": Membership(1, "joined")}),
        view("b", domains={SD: Membership(5, "joining or leaving")}),
        view("c", domains={SD: Membership()}),
        replace(view("d"), capabilities=None),
    ]
    assert joined([DATA], views) == {Pair("a", SD): 4}


# --- with hosts ---------------------------------------------------------------------------------


@dataclass
class Member:
    """A host with sanlock that does as it is told. fails: its next answers to an activation. held:
    none comes before."""

    number: int
    host: StandIn
    memberships: dict[str, Any] = field(default_factory=dict)
    fails: list[Any] = field(default_factory=list)
    held: trio.Event | None = None

    def __post_init__(self) -> None:
        self.host.answers |= {
            "Host.getCapabilities": self._capabilities,
            "StorageDomain.activate": self._activate,
            "StorageDomain.deactivate": self._deactivate,
        }

    @property
    def id(self) -> str:
        return Path(self.host.path).name

    @property
    def asked(self) -> list[dict[str, Any]]:
        return self.host.of("StorageDomain.activate")

    def joined(self, sd_id: str = SD) -> int | None:
        found = self.memberships.get(sd_id)
        return found["host_id"] if found else None

    async def _capabilities(self, params: dict[str, Any]) -> dict[str, Any]:
        return capabilities(f"u{self.number}", stores=SANLOCK, domains=dict(self.memberships))

    async def _activate(self, params: dict[str, Any]) -> Any:
        if self.held is not None:
            await self.held.wait()
        if self.fails:
            return self.fails.pop(0)
        member = {"host_id": params["host_id"], "state": "joined"}
        self.memberships[params["storagedomainID"]] = member
        return True

    async def _deactivate(self, params: dict[str, Any]) -> Any:
        if self.memberships.pop(params["storagedomainID"], None) is None:
            return StorageDomainDoesNotExist(params["storagedomainID"])
        return True


@dataclass
class World:
    database: Database
    fleet: Fleet
    joining: Joining
    members: list[Member]

    def complete(self) -> bool:
        """All have joined SD."""
        return all(one.joined() is not None for one in self.members)

    async def looked(self) -> None:
        """Some rounds have passed."""
        for _ in range(3):
            before = [len(one.host.of("Host.getCapabilities")) for one in self.members]
            await until(
                lambda: all(
                    len(one.host.of("Host.getCapabilities")) > count
                    for one, count in zip(self.members, before, strict=True)  # noqa: B023
                )
            )

    def looked_at(self, host: str) -> Callable[[], bool]:
        """Does the fleet know that the host has joined SD?"""

        def known() -> bool:
            told = self.fleet.view(host).capabilities
            return told is not None and told.sees(SD)

        return known

    async def ids(self, sd_id: str = SD) -> dict[str, int]:
        return await self.database.read(lambda c: host_ids.of_domain(c, sd_id))

    async def domain(self, row: Domain = DATA) -> None:
        """The next look finds it: a hurry could also come while hosts are just told to join."""
        await self.database.write(lambda c: domains.add(c, row))


@asynccontextmanager
async def world(
    folder: Path, *, pauses: tuple[float, ...] = (0.01,), before: Any = lambda members: None
) -> AsyncGenerator[World]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        members = [
            Member(number, await enter(stand_in(folder, name)))
            for number, name in enumerate("abc", 1)
        ]
        before(members)
        database = await enter(Database.opened(f"sqlite:///{folder}/engine.db", key=Key.random()))
        for one in members:
            row = Host(one.id, one.id, one.host.url)
            await database.write(lambda c, row=row: hosts.add(c, row))  # type: ignore[misc]
        found = await enter(fleet(database, times=QUICK))
        joining = Joining(database, found, look=0.05, pauses=pauses)
        nursery = await enter(trio.open_nursery())
        nursery.start_soon(joining.run)
        yield World(database, found, joining, members)
        nursery.cancel_scope.cancel()


async def test_every_host_joins_once_with_an_id_of_its_own(tmp_path: Path) -> None:
    async with world(tmp_path) as site:
        await site.domain()
        await until(site.complete)
        assert sorted(one.joined() or 0 for one in site.members) == [1, 2, 3]
        assert await site.ids() == {one.id: one.joined() for one in site.members}
        await site.looked()
        assert [len(one.asked) for one in site.members] == [1, 1, 1]
        assert site.members[0].asked[0]["path"] == "/mnt"
        assert site.joining.problems == {}


async def test_a_host_keeps_its_id_over_restarts_of_the_engine(tmp_path: Path) -> None:
    async with world(tmp_path) as site:
        await site.domain()
        await until(site.complete)
        before = await site.ids()
        first = site.members[0]
        first.memberships.clear()  # its daemon was started again, and it did not join by itself
        await until(lambda: first.joined() is not None)
        assert first.joined() == before[first.id]


async def test_a_host_that_comes_later_joins_then(tmp_path: Path) -> None:
    async with world(tmp_path) as site, stand_in(tmp_path, "late") as host:
        await site.domain()
        await until(site.complete)
        late = Member(9, host)
        row = Host("late", "late", host.url)
        await site.database.write(lambda c: hosts.add(c, row))
        await site.fleet.add("late")
        await until(lambda: late.joined() is not None)
        assert late.joined() == 4
        await site.fleet.remove("late")


def storage_is_slow(members: list[Member]) -> None:
    members[0].fails = [AcquireHostIdFailure(SD, "join", "storage is slow")] * 2


async def test_a_failure_is_told_until_the_host_has_joined(tmp_path: Path) -> None:
    async with world(tmp_path, before=storage_is_slow, pauses=(1000.0,)) as site:
        await site.domain()
        for times in (1, 2):
            await until(lambda: len(site.members[0].asked) == times)  # noqa: B023
            await until(lambda: Pair("a", SD) in site.joining.problems)
            problem = site.joining.problem("a")
            assert problem.startswith(f"it has not joined domain data ({SD}): ")
            assert "storage is slow" in problem
            assert site.joining.problem("b") == ""
            assert "storage is slow" in site.joining.problems[Pair("a", SD)]
            site.joining.hurry()
        await until(lambda: not site.joining.problems)
        assert site.members[0].joined() is not None


async def test_a_failure_is_tried_again_after_a_pause(tmp_path: Path) -> None:
    async with world(tmp_path, before=storage_is_slow) as site:
        await site.domain()
        await until(site.complete)
        assert len(site.members[0].asked) == 3


async def test_pauses_grow_and_hurry_ends_them(tmp_path: Path) -> None:
    def before(members: list[Member]) -> None:
        members[0].fails = [AcquireHostIdFailure(SD, "join", "no")] * 2

    async with world(tmp_path, before=before, pauses=(0.01, 1000.0)) as site:
        first = site.members[0]
        await site.domain()
        await until(lambda: len(first.asked) == 2)
        await site.looked()
        assert len(first.asked) == 2
        site.joining.hurry()
        await until(lambda: first.joined() is not None)


async def test_a_hurry_while_a_host_is_just_joining_counts_when_that_fails(tmp_path: Path) -> None:
    held = trio.Event()

    def before(members: list[Member]) -> None:
        members[0].fails = [AcquireHostIdFailure(SD, "join", "no")]
        members[0].held = held

    async with world(tmp_path, before=before, pauses=(1000.0,)) as site:
        first = site.members[0]
        await site.domain()
        await until(lambda: len(first.asked) == 1)
        site.joining.hurry()
        held.set()
        await until(lambda: first.joined() is not None)
        assert len(first.asked) == 2


async def test_a_hurry_while_a_host_is_just_joining_counts_once(tmp_path: Path) -> None:
    held = trio.Event()

    def before(members: list[Member]) -> None:
        members[0].fails = [AcquireHostIdFailure(SD, "join", "no")] * 3
        members[0].held = held

    async with world(tmp_path, before=before, pauses=(1000.0,)) as site:
        first = site.members[0]
        await site.domain()
        await until(lambda: len(first.asked) == 1)
        site.joining.hurry()
        held.set()
        await until(lambda: len(first.asked) == 2)
        await site.looked()
        assert len(first.asked) == 2


async def test_a_host_that_says_yes_and_does_not_join_is_not_asked_without_pause(
    tmp_path: Path,
) -> None:
    def before(members: list[Member]) -> None:
        members[0].fails = [True] * 100

    async with world(tmp_path, before=before, pauses=(1000.0,)) as site:
        await site.domain()
        await until(lambda: bool(site.joining.problems))
        await site.looked()
        assert len(site.members[0].asked) == 1
        assert "does not say so" in site.joining.problems[Pair("a", SD)]


async def test_a_host_that_does_not_answer_holds_no_other_up(tmp_path: Path) -> None:
    def before(members: list[Member]) -> None:
        members[0].host.answers["StorageDomain.activate"] = SILENT

    async with world(tmp_path, before=before) as site:
        await site.domain()
        await until(lambda: sum(one.joined() is not None for one in site.members) == 2)
        await site.domain(replace(DATA, id=OTHER, name="other"))
        await until(lambda: sum(one.joined(OTHER) is not None for one in site.members) == 2)
        await until(lambda: len(site.members[0].asked) == 2)
        await site.looked()
        assert len(site.members[0].asked) == 2  # once for each domain


async def test_what_hosts_say_counts_more_than_what_was_given_out(tmp_path: Path) -> None:
    """Somebody had the third host join by hand, with the id that the first one would get."""

    def before(members: list[Member]) -> None:
        members[2].memberships[SD] = {"host_id": 1, "state": "joined"}

    async with world(tmp_path, before=before) as site:
        await site.domain()
        await until(site.complete)
        assert site.members[2].asked == []
        assert sorted(one.joined() or 0 for one in site.members) == [1, 2, 3]
        assert await site.ids() == {one.id: one.joined() for one in site.members}


async def test_an_id_that_is_in_use_is_left_to_its_user_when_that_is_seen(tmp_path: Path) -> None:
    def before(members: list[Member]) -> None:
        members[1].host.refuses = True
        members[1].memberships[SD] = {"host_id": 1, "state": "joined"}
        members[2].memberships[SD] = {"host_id": 3, "state": "joined"}
        members[0].fails = [AcquireHostIdFailure(SD, "join", "host id 1 is in use")]

    async with world(tmp_path, before=before, pauses=(1000.0,)) as site:
        await site.domain()
        await until(lambda: bool(site.joining.problems))
        site.members[1].host.refuses = False
        await until(lambda: site.fleet.view("b").up)
        await until(site.looked_at("b"))
        site.joining.hurry()
        await until(site.complete)
        assert site.members[0].joined() not in (None, 1)


async def test_hosts_leave_a_domain_in_maintenance_and_come_back(tmp_path: Path) -> None:
    async with world(tmp_path) as site:
        await site.domain()
        await until(site.complete)
        ids = await site.ids()
        await site.database.write(lambda c: domains.move(c, SD, "maintenance"))
        assert await site.joining.leave(SD, ["a", "b", "c", "gone"]) == {
            "gone": "no such host: 'gone'"
        }
        assert [one.joined() for one in site.members] == [None, None, None]
        assert await site.joining.leave(SD, ["a"]) == {}  # once more is no error
        await site.looked()
        assert [one.joined() for one in site.members] == [None, None, None]
        await site.database.write(lambda c: domains.move(c, SD, "active"))
        site.joining.hurry()
        await until(site.complete)
        assert await site.ids() == ids


async def test_leaving_ends_the_try_to_join(tmp_path: Path) -> None:
    def before(members: list[Member]) -> None:
        members[0].host.answers["StorageDomain.activate"] = SILENT

    async with world(tmp_path, before=before) as site:
        await site.domain()
        await until(lambda: bool(site.members[0].asked))
        await site.database.write(lambda c: domains.move(c, SD, "maintenance"))
        with trio.fail_after(10):
            await site.joining.leave(SD, ["a"])
        await site.looked()
        assert len(site.members[0].asked) == 1
        await site.database.write(lambda c: domains.move(c, SD, "active"))
        site.joining.hurry()
        await until(lambda: len(site.members[0].asked) == 2)


async def test_a_look_that_has_read_the_old_state_has_nobody_join_after_the_leaving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as site:
        site.members[0].host.refuses = True  # so that it is to join, once it is back
        await site.members[0].host.drop()
        await site.domain()
        await until(lambda: sum(one.joined() is not None for one in site.members) == 2)
        read, go_on, original = trio.Event(), trio.Event(), site.database.read

        async def slow(work: Any) -> Any:
            found = await original(work)
            if site.fleet.view("a").up:
                read.set()
                await go_on.wait()
            return found

        monkeypatch.setattr(site.database, "read", slow)
        site.members[0].host.refuses = False
        with trio.fail_after(20):
            await read.wait()
        await site.database.write(lambda c: domains.move(c, SD, "maintenance"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(site.joining.leave, SD, ["a", "b", "c"])
            await trio.testing.wait_all_tasks_blocked()
            go_on.set()
        await site.looked()
        assert [one.joined() for one in site.members] == [None, None, None]


async def test_a_host_whose_daemon_is_away_tells_why_it_has_not_joined_what_several_share(
    tmp_path: Path,
) -> None:
    known: dict[str, Any] = {}

    async def activate(params: dict[str, Any]) -> Any:
        known[params["storagedomainID"]] = {"host_id": None, "state": "not joined"}
        return SanlockUnavailable("/run/sanlock", "no daemon") if "host_id" in params else True

    async def told(params: dict[str, Any]) -> dict[str, Any]:
        return capabilities("u1", domains=dict(known))

    def before(members: list[Member]) -> None:
        members[0].host.answers["StorageDomain.activate"] = activate
        members[0].host.answers["Host.getCapabilities"] = told

    async with world(tmp_path, before=before) as site:
        await site.domain()
        await until(lambda: "no sanlock daemon" in site.joining.problem("a"))
        told_by = site.fleet.view("a").capabilities
        assert told_by is not None
        assert not told_by.sees(SD)


async def test_a_host_without_sanlock_is_told_to_know_the_domain_and_gets_no_id(
    tmp_path: Path,
) -> None:
    known: dict[str, Any] = {}

    async def activate(params: dict[str, Any]) -> bool:
        known[params["storagedomainID"]] = {"host_id": None, "state": "alone"}
        return True

    async def told(params: dict[str, Any]) -> dict[str, Any]:
        return capabilities("u1", domains=dict(known))

    def before(members: list[Member]) -> None:
        members[0].host.answers["StorageDomain.activate"] = activate
        members[0].host.answers["Host.getCapabilities"] = told

    async with world(tmp_path, before=before) as site:
        await site.domain()
        await until(lambda: SD in known)
        await site.looked()
        assert site.members[0].asked == [{"storagedomainID": SD, "path": "/mnt"}]
        assert "a" not in await site.ids()
