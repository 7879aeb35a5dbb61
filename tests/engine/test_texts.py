"""Texts for people call things by the names that they have just then, and by their ids."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from engine.admin import Admin
from engine.commands.disk_checks import taken
from engine.commands.managed_volumes import must_be_unattached
from engine.commands.snapshot_undo import must_be_previewed
from engine.commands.verdicts import recorded
from engine.db import attachments, audit, disks, domains, host_ids, hosts, volumes
from engine.db.database import Database
from engine.db.secrets import Key
from engine.disk_admin import rename_disk
from engine.domain_admin import DomainAdmin
from engine.events import Bus
from engine.host_admin import HostAdmin
from engine.host_files import HostFiles
from engine.host_states import LinkState
from engine.host_view import HostView
from engine.judgement import End, Verdict
from engine.story import Finding
from protocol.errors import Error, NoSuchObject
from tests.engine.db import things


class Fleet:
    """Nobody is asked."""

    async def add(self, host: str) -> None: ...

    async def remove(self, host: str) -> None: ...

    async def maintain(self, host: str, *, on: bool) -> None: ...

    async def call(self, host: str, verb: str, params: Any = None) -> Any: ...


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    async with Database.opened(f"sqlite:///{tmp_path}/e.sqlite", key=Key.random()) as made:
        yield made


async def texts(database: Database) -> list[str]:
    return [row.text for row in await database.read(lambda c: audit.since(c, 0))]


async def test_hosts_are_called_by_their_names_and_ids(database: Database) -> None:
    bus = Bus()
    admin = HostAdmin(Admin(database, bus, "anna"), Fleet(), HostFiles())
    with bus.subscribed("host.changed") as heard:
        id = await admin.add("host1", "tcp://127.0.0.1:5")
        await database.write(lambda c: hosts.change(c, id, name="host2"))
        await admin.maintain(id, on=True)
        await admin.remove(id)
        expected = [
            f"added host host1 ({id}) at tcp://127.0.0.1:5",
            f"maintenance of host host2 ({id}) began",
            f"removed host host2 ({id})",
        ]
        assert await texts(database) == expected
        assert [(await heard.receive()).data["text"] for _ in expected] == expected
    with pytest.raises(NoSuchObject):  # and nothing is written down
        await admin.maintain(id, on=False)
    assert len(await texts(database)) == 3


async def test_a_domain_that_is_renamed_is_called_by_its_old_name_and_then_by_its_new_one(
    database: Database,
) -> None:
    row = things.domain(name="old", kind="managed_block_storage")
    await database.write(lambda c: domains.add(c, row))
    admin = DomainAdmin(Admin(database, Bus(), "anna"), Fleet(), None, lambda driver: None)  # type: ignore[arg-type,return-value]
    await admin.rename(row.id, name="new", description="")
    await admin.limit(row.id, 3)
    await admin.limit(row.id, None)
    await admin.deactivate(row.id)
    await admin.activate(row.id)
    await admin.remove(row.id)
    assert await texts(database) == [
        f"storage domain old ({row.id}) is named new",
        f"storage domain new ({row.id}) has so many copies at once: 3",
        f"storage domain new ({row.id}) has so many copies at once: as configured",
        f"storage domain new ({row.id}) is in maintenance",
        f"storage domain new ({row.id}) was activated",
        f"storage domain new ({row.id}) was removed",
    ]


async def test_a_disk_that_is_renamed_is_called_by_its_old_name(database: Database) -> None:
    def work(c: Connection) -> str:
        domain = things.added_domain(c)
        disks.add(c, row := things.disk(domain.id, name="web"))
        return row.id

    id = await database.write(work)
    await rename_disk(Admin(database, Bus(), "anna"), id, name="web-data", description="")
    assert await texts(database) == [f"disk web ({id}) is named web-data"]


async def test_what_refuses_a_disk_calls_disk_domain_and_host_by_their_names_and_ids(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_ids, "LAST", 0)

    def refused(work: Callable[[], object]) -> str:
        with pytest.raises(Error) as e:
            work()
        return str(e.value)

    def work(c: Connection) -> None:
        domain, host = things.added_domain(c, name="data"), things.host(name="host1")
        hosts.add(c, host)
        disks.add(c, disk := things.disk(domain.id, name="web"))
        volumes.add(c, things.volume(disk))
        web, host1 = f"disk web ({disk.id})", f"host host1 ({host.id})"
        volume = disk.volume or ""
        full = refused(lambda: host_ids.allocated(c, domain.id, host.id))
        assert full.startswith(f"storage domain data ({domain.id}) has no room")
        previewed = refused(lambda: must_be_previewed(c, disk.id, "one"))
        assert previewed.startswith(f"{web} is not in preview")
        assert refused(lambda: taken(c, disk.id, "two")) == f"{web} is locked by command one"
        disks.unlock(c, disk.id, "one", status="illegal")
        assert refused(lambda: taken(c, disk.id, "two")).startswith(f"{web} is illegal")
        attachments.begin(c, volume, host.id, "one")
        for attached in (
            refused(lambda: must_be_unattached(c, volume)),
            refused(lambda: attachments.begin(c, volume, host.id, "two")),
        ):
            assert attached.endswith(host1)
        volumes.keep(c, volume)
        assert refused(lambda: taken(c, disk.id, "two")).startswith(f"{web} is in quarantine")

    await database.write(work)


def test_a_story_calls_hosts_by_their_names_as_far_as_there_are_such_hosts() -> None:
    story = (
        Finding("id-1", "the host is silent", "3", 0.0, 5.0, times=2),
        Finding("id-2", "free", "8", 6.0, 6.0),
        Finding(None, "nobody", "9", 7.0, 7.0),
    )
    verdict = Verdict(
        End.DONE, "8", "x", False, False, False, cause=None, action="", error=None, story=story
    )
    view = HostView(
        "id-1", "host1", LinkState.UP, "", up=True, maintenance=False, capabilities=None
    )
    told = recorded(verdict, [view])["story"]
    assert told[0]["host"] == "id-1"  # a fact, for programs
    assert (
        told[0]["text"] == "     0 s  host1 (id-1): the host is silent [3] (2 times, last at 5 s)"
    )
    assert told[1]["text"] == "     6 s  id-2: free [8]"
    assert told[2]["text"] == "     7 s  nobody [9]"
