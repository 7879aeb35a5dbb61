"""What Prometheus is told of an engine; docs/engine.md has the list."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from engine.answers import HostState
from engine.db import quarantine
from engine.db.database import Database
from engine.db.quarantine import Quarantined
from engine.db.secrets import Key
from engine.events import Bus
from engine.fleet import Fleet
from engine.host_states import LinkState
from engine.host_view import HostView
from engine.metrics import Measured, MeasuredHosts, Metrics, keep_counted, resource
from protocol.errors import CannotConnect
from tests.servers import WAIT

DOCS = Path(__file__).parents[2] / "docs" / "engine.md"


class Hosts:
    """A fleet, as far as it is looked at here; host "b" does not answer."""

    def views(self) -> list[HostView]:
        up = HostView("a", "a", LinkState.UP, "", True, False, None)
        return [up, HostView("b", "b", LinkState.DOWN, "gone", False, False, None)]

    def state(self, host: str) -> HostState:
        return HostState.UP

    def candidates(self, lease: object) -> list[str]:
        return ["a"]

    async def owner(self, lease: object, host_id: int) -> str | None:
        return None

    async def jobs(self, host: str, job_ids: object) -> Mapping[str, Any]:
        if host == "b":
            raise CannotConnect("b", "gone")
        return {}

    async def lease_status(self, host: str, lease: object) -> Mapping[str, Any]:
        return {}

    async def fence(self, host: str, lease: object, expected: object) -> None:
        pass


def metrics(bus: Bus | None = None) -> Metrics:
    fleet: Fleet = Hosts()  # type: ignore[assignment]
    return Metrics("0.0", fleet, bus or Bus(), fresh=0.0)


def scraped(made: Metrics) -> dict[str, float]:
    """By name and labels: `name{a="b"}`."""
    text = made.text()[0].decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def test_hosts_are_counted_by_their_state() -> None:
    found = scraped(metrics())
    assert found['leasehold_engine_hosts{state="up"}'] == 1
    assert found['leasehold_engine_hosts{state="down"}'] == 1
    assert found['leasehold_engine_hosts{state="maintenance"}'] == 0


async def test_copies_are_followed_from_their_progress_to_their_end() -> None:
    bus = Bus()
    made = metrics(bus)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.listen)
        await trio.testing.wait_all_tasks_blocked()
        # Of the first what was copied before we listened is not counted.
        bus.tell("job.progress", "c1", {"bytes": 100, "rate": 10.0})
        bus.tell("job.progress", "c1", {"bytes": 150, "rate": 20.0})
        bus.tell("job.progress", "c2", {"bytes": None, "rate": None})
        bus.tell("job.progress", "c3", {"bytes": 7, "rate": 1.0})
        await trio.testing.wait_all_tasks_blocked()
        found = scraped(made)
        assert found["leasehold_engine_copied_bytes_total"] == 50
        assert found["leasehold_engine_copy_rate_bytes_per_second"] == 21
        assert found["leasehold_engine_copies_running"] == 2
        bus.tell("command.changed", "c1", {"state": "running", "type": "copy_disk"})
        bus.tell("command.changed", "c1", {"state": "succeeded", "type": "copy_disk"})
        await trio.testing.wait_all_tasks_blocked()
        found = scraped(made)
        assert found["leasehold_engine_copies_running"] == 1
        ended = 'leasehold_engine_commands_ended_total{state="succeeded",type="copy_disk"}'
        assert found[ended] == 1
        assert found["leasehold_engine_copied_bytes_total"] == 50
        nursery.cancel_scope.cancel()


async def test_questions_are_timed_by_what_became_of_them() -> None:
    made = metrics()
    hosts = MeasuredHosts(Hosts(), made)
    assert hosts.state("a") is HostState.UP
    assert hosts.candidates(None) == ["a"]  # type: ignore[arg-type]
    await hosts.jobs("a", [])
    with pytest.raises(CannotConnect):
        await hosts.jobs("b", [])
    await hosts.lease_status("a", None)  # type: ignore[arg-type]
    await hosts.fence("a", None, None)  # type: ignore[arg-type]
    found = scraped(made)
    name = "leasehold_engine_question_duration_seconds_count"
    for question, result in (
        ("jobs", "ok"),
        ("jobs", "failed"),
        ("lease_status", "ok"),
        ("fence", "ok"),
    ):
        assert found[f'{name}{{question="{question}",result="{result}"}}'] == 1


def served(made: Metrics) -> httpx.AsyncClient:
    async def fine(request: Request) -> Response:
        return Response("")

    async def fails(request: Request) -> Response:
        raise ZeroDivisionError

    routes = [Route("/ovirt-engine/api/disks/{id}", fine), Route("/leasehold/api/v1/me", fails)]
    application = Measured(Starlette(routes=routes), made)
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://engine")


async def test_requests_are_timed_by_what_they_ask_for() -> None:
    made = metrics()
    async with served(made) as client:
        await client.get("/ovirt-engine/api/disks/1")
        await client.get("/ovirt-engine/api/disks/2")
        await client.get("/leasehold/api/v1/me")
        for number in range(20):  # clients choose paths and methods; labels they do not
            await client.request("BREW", f"/{number}/ovirt-engine/api/disks")
            await client.get(f"/ovirt-engine/api/x{number}")
    name = "leasehold_engine_request_duration_seconds_count"
    found = {key: value for key, value in scraped(made).items() if key.startswith(name)}
    assert found[f'{name}{{method="GET",resource="disks",status="200"}}'] == 2
    assert found[f'{name}{{method="GET",resource="me",status="500"}}'] == 1
    assert found[f'{name}{{method="other",resource="other",status="404"}}'] == 20
    assert found[f'{name}{{method="GET",resource="other",status="404"}}'] == 20
    assert len(found) == 4


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/ovirt-engine/api", "other"),
        ("/ovirt-engine/api/", "other"),
        ("/ovirt-engine/api/disks/1/copy", "disks"),
        ("/ovirt-engine/apidisks", "other"),
        ("/ovirt-engine/sso/oauth/token", "sso"),
        ("/leasehold/api/v1/commands/1", "commands"),
        ("/leasehold/api/v1/openapi.json", "openapi"),
        ("/leasehold/api/v2/commands", "other"),
        ("/etc/passwd", "other"),
        ("", "other"),
    ],
)
def test_what_a_path_asks_for(path: str, name: str) -> None:
    assert resource(path) == name


async def test_what_is_in_the_database_is_counted(tmp_path: Path) -> None:
    kept = Quarantined("q", "volume", "v", "d", None, "c", "why", "what", 1.0, None)

    def put(c: Connection) -> None:
        quarantine.put(c, kept)

    made = metrics()
    async with Database.opened(f"sqlite:///{tmp_path}/e.sqlite", key=Key.random()) as database:
        await database.write(put)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_counted, made.standing, database, 0.01)
            with trio.fail_after(WAIT):
                while scraped(made)["leasehold_engine_quarantined"] != 1:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


async def test_docs_list_every_metric_with_its_type_and_its_labels() -> None:
    made = metrics()
    made.asked("jobs", 1.0, fine=True)
    made.answered("GET", "/", 200, 1.0)
    made.standing.commands = {("copy_disk", "running"): 1}
    made._ended.labels("copy_disk", "failed").inc()
    text = DOCS.read_text().partition("\n## Metrics\n")[2]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|(.*?)\| .+ \|$", text, re.MULTILINE)
    listed = {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows
    }
    assert len(listed) == len(rows)
    found = {}
    for family in made.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert family.samples, f"{name} is not seen here"
        found[name] = (family.type, frozenset(labels))
    assert listed == found
