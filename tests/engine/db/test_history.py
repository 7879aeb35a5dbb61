"""Commands and their journal, quarantine, the audit log; users, tokens, webhooks."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest
import trio
import trio.lowlevel
from sqlalchemy import Connection

from engine.db import (
    accounts,
    audit,
    commands,
    deliveries,
    jobs,
    leases,
    quarantine,
    stages,
    webhooks,
)
from engine.db.accounts import Token, User
from engine.db.commands import Command
from engine.db.database import Database
from engine.db.jobs import Job
from engine.db.leases import Lease
from engine.db.quarantine import Quarantined
from engine.db.stages import Line
from engine.db.webhooks import Webhook
from protocol.errors import NameTaken, NoSuchObject, WrongState
from tests.engine.db.things import added_command, added_domain, new_id


def thing(command: str, **fields: object) -> Quarantined:
    given: dict[str, Any] = {"id": f"{command}:volume:v", "kind": "volume", "object": "v"}
    given |= {
        "domain": "d",
        "host": None,
        "command": command,
        "reason": "r",
        "action": "a",
        "at": 1.0,
    }
    return Quarantined(**{**given, **fields})


def entry(c: Connection, **fields: object) -> int:
    given: dict[str, Any] = {
        "at": 1.0,
        "severity": "normal",
        "code": 1,
        "user": "u",
        "correlation": None,
    }
    given |= {"kind": "disk", "object": "d", "text": "t"}
    return audit.add(c, **{**given, **fields})


def ids(rows: Iterable[Command]) -> list[str]:
    return [row.id for row in rows]


# --- commands -----------------------------------------------------------------------------------


async def test_a_command_moves_only_from_the_state_that_is_expected(db: Database) -> None:
    row = await db.write(lambda c: added_command(c, facts={"a": 1}))

    def work(c: Connection) -> None:
        commands.move(c, row.id, "running", expected="running", at=2.0, stage="copy")
        commands.move(
            c, row.id, "undoing", expected="running", at=3.0, facts={"b": 2}, error={"code": 100}
        )
        with pytest.raises(WrongState, match="undoing, not running"):
            commands.move(c, row.id, "succeeded", expected="running", at=4.0)
        with pytest.raises(NoSuchObject):
            commands.move(c, "x", "succeeded", expected="running", at=4.0)
        found = commands.get(c, row.id)
        assert (found.state, found.stage, found.changed) == ("undoing", "copy", 3.0)
        assert (found.facts, found.error) == ({"a": 1, "b": 2}, {"code": 100})
        commands.move(c, row.id, "failed", expected="undoing", at=5.0, ended=True)
        assert commands.get(c, row.id).ended == 5.0
        commands.move(c, row.id, "undoing", expected="failed", at=6.0)
        assert commands.get(c, row.id).ended is None

    await db.write(work)


async def test_an_abort_is_asked_only_of_one_that_runs(db: Database) -> None:
    def work(c: Connection) -> None:
        one, two = added_command(c), added_command(c, state="failed")
        commands.ask_abort(c, one.id, expected=("running",), at=2.0)
        assert commands.get(c, one.id).abort_asked
        with pytest.raises(WrongState):
            commands.ask_abort(c, two.id, expected=("running",), at=2.0)

    await db.write(work)


async def test_commands_are_found_by_what_they_are(db: Database) -> None:
    def work(c: Connection) -> None:
        one = added_command(c, correlation="x", created=1.0)
        two = added_command(c, type="move_disk", state="failed", correlation="x", created=2.0)
        three = added_command(c, user="other", correlation="x", created=3.0)
        assert ids(commands.search(c)) == [three.id, two.id, one.id]
        assert ids(commands.search(c, states=("failed", "aborted"))) == [two.id]
        assert ids(commands.search(c, states=())) == []
        assert ids(commands.search(c, type="copy_disk", user="admin")) == [one.id]
        assert ids(commands.search(c, id=two.id)) == [two.id]
        assert ids(commands.correlated(c, "admin", "x")) == [two.id, one.id]
        assert ids(commands.in_states(c, ("running",))) == [one.id, three.id]
        assert commands.count(c, states=("running",)) == 2
        assert commands.counts(c) == {("copy_disk", "running"): 2, ("move_disk", "failed"): 1}

    await db.write(work)


async def test_old_commands_are_forgotten_with_what_is_theirs(db: Database) -> None:
    def work(c: Connection) -> None:
        old = {"state": "succeeded", "ended": 10.0}
        gone, held, leased = (added_command(c, **old) for _ in range(3))
        young, runs = added_command(c, state="failed", ended=99.0), added_command(c)
        stages.append(c, gone.id, "copy", "begin", at=1.0)
        jobs.add(c, Job("j", gone.id, "h"))
        quarantine.put(c, thing(gone.id, cleared=5.0))
        quarantine.put(c, thing(held.id))
        space = added_domain(c).id
        leases.begin(c, Lease("l", space, leased.id))
        leases.begin(c, Lease("m", space, gone.id))
        leases.move(c, "m", "gone")
        assert commands.forget(c, 50.0) == 1
        assert {one.id for one in commands.search(c)} == {held.id, leased.id, young.id, runs.id}
        assert stages.of_command(c, gone.id) == []
        assert jobs.find(c, "j") is None
        assert leases.find(c, "m") is None
        assert commands.forget(c, 50.0) == 0
        quarantine.clear(c, thing(held.id).id, at=20.0)
        assert commands.forget(c, 50.0, limit=1) == 1

    await db.write(work)


async def test_the_journal_is_in_order_and_a_line_is_written_once(db: Database) -> None:
    def work(c: Connection) -> None:
        one, two = added_command(c).id, added_command(c).id
        assert stages.append(c, one, "create", "begin", at=1.0) == 1
        assert stages.append(c, two, "create", "begin", at=1.0) == 1
        assert stages.append(c, one, "create", "done", at=2.0, data={"zero": True}) == 2
        assert stages.of_command(c, one) == [
            Line(one, 1, "create", "begin", 1.0),
            Line(one, 2, "create", "done", 2.0, {"zero": True}),
        ]

    await db.write(work)
    id = (await db.read(commands.search))[0].id
    with pytest.raises(NameTaken, match="1 of command"):
        await db.write(lambda c: stages.add(c, Line(id, 1, "create", "begin", 1.0)))


# --- quarantine, audit --------------------------------------------------------------------------


async def test_a_thing_is_in_quarantine_once_until_it_is_cleared(db: Database) -> None:
    def work(c: Connection) -> None:
        quarantine.put(c, thing("one"))
        quarantine.put(c, thing("one", reason="again"))
        quarantine.put(c, thing("two", kind="attachment", host="h", at=2.0))
        assert [row.reason for row in quarantine.search(c)] == ["r", "again"]
        assert quarantine.search(c, kind="attachment", host="h") == [
            thing("two", kind="attachment", host="h", at=2.0)
        ]
        assert quarantine.count(c) == 2
        assert quarantine.clear(c, thing("one").id, at=9.0)
        assert not quarantine.clear(c, thing("one").id, at=10.0)
        assert not quarantine.clear(c, "x", at=10.0)
        assert quarantine.get(c, thing("one").id).cleared == 9.0
        assert (quarantine.count(c), quarantine.count(c, all=True)) == (1, 2)
        quarantine.put(c, thing("one"))
        assert quarantine.count(c) == 2
        with pytest.raises(NoSuchObject):
            quarantine.get(c, "x")

    await db.write(work)


async def test_entries_of_the_audit_log_are_numbered_for_ever(db: Database) -> None:
    def work(c: Connection) -> None:
        assert audit.last_id(c) == 0
        first, second = entry(c), entry(c, severity="error", correlation="x", at=5.0)
        assert second > first > 0
        assert [one.id for one in audit.since(c, first)] == [second]
        assert [one.id for one in audit.since(c, 0, limit=1)] == [first]
        assert [one.id for one in audit.search(c)] == [second, first]
        assert [one.id for one in audit.search(c, severity="error", correlation="x")] == [second]
        assert audit.search(c, after=second) == []
        assert audit.get(c, second).severity == "error"
        with pytest.raises(NoSuchObject):
            audit.get(c, second + 1)
        assert audit.forget(c, 99.0) == 2
        assert entry(c) > second

    await db.write(work)


async def test_entries_are_in_the_order_of_their_commits(db: Database) -> None:
    """So a reader who remembers the last id misses none."""
    seen: list[int] = []

    async def follow() -> None:
        while len(seen) < 100:
            new = await db.read(partial(audit.since, after=seen[-1] if seen else 0))
            seen.extend(one.id for one in new)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        for _ in range(100):
            nursery.start_soon(db.write, entry)
    assert seen == sorted(set(seen))
    assert len(seen) == 100


# --- users, webhooks ----------------------------------------------------------------------------


async def test_a_token_has_the_role_of_its_user_and_goes_with_it(db: Database) -> None:
    def work(c: Connection) -> None:
        accounts.add_user(c, User("a", "hash", "reader"))
        accounts.add_token(c, Token("t", "a", 10.0))
        accounts.change_user(c, User("a", "other", "admin"))
        assert accounts.find_token(c, "t") == Token("t", "a", 10.0, "admin")
        assert accounts.find_token(c, "x") is None
        accounts.forget_expired(c, 9.0)
        assert accounts.find_token(c, "t") is not None
        accounts.forget_expired(c, 10.0)
        assert accounts.find_token(c, "t") is None
        accounts.add_token(c, Token("u", "a", 99.0))
        accounts.remove_user(c, "a")
        assert accounts.find_token(c, "u") is None
        assert accounts.all_users(c) == []
        for missing in (
            lambda: accounts.get_user(c, "a"),
            lambda: accounts.remove_user(c, "a"),
            lambda: accounts.change_user(c, User("a", "x", "reader")),
            lambda: accounts.add_token(c, Token("v", "a", 1.0)),
        ):
            with pytest.raises(NoSuchObject):
                missing()

    await db.write(work)


async def test_two_users_cannot_have_one_name(db: Database) -> None:
    await db.write(lambda c: accounts.add_user(c, User("a", "hash", "reader")))
    with pytest.raises(NameTaken):
        await db.write(lambda c: accounts.add_user(c, User("a", "hash", "admin")))


async def test_a_delivery_is_tried_until_it_is_heard_or_given_up(db: Database) -> None:
    def work(c: Connection) -> None:
        hook = Webhook(new_id(), "https://x", ("job.", "disk.changed"), signed=True)
        webhooks.add(c, hook, secret="s")
        assert webhooks.get(c, hook.id) == hook
        one = deliveries.add(c, hook.id, {"kind": "job.progress"}, at=5.0)
        two = deliveries.add(c, hook.id, {"kind": "disk.changed"}, at=4.0)
        assert deliveries.next_due(c) == 4.0
        assert deliveries.due(c, 3.9) == []
        assert [row.id for row in deliveries.due(c, 5.0)] == [two, one]
        deliveries.failed(c, one, "x" * 5000, again_at=50.0)
        deliveries.sent(c, two)
        assert [row.id for row in deliveries.due(c, 49.0)] == []
        deliveries.failed(c, one, "y", again_at=None)
        found = deliveries.get(c, one)
        assert (found.state, found.tries, found.last_error) == ("failed", 2, "y")
        with pytest.raises(WrongState):
            deliveries.sent(c, one)
        assert deliveries.waiting(c, hook.id) == 0
        assert [row.id for row in deliveries.of_webhook(c, hook.id)] == [two, one]
        assert deliveries.forget(c, 60.0) == 2
        deliveries.add(c, hook.id, {}, at=1.0)
        webhooks.set_active(c, hook.id, False)
        assert not webhooks.get(c, hook.id).active
        webhooks.remove(c, hook.id)
        assert deliveries.next_due(c) is None
        assert webhooks.all_webhooks(c) == []

    await db.write(work)
