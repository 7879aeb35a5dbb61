"""Metrics of the engine for Prometheus. docs/metrics.md lists them; a test compares."""

import re
import time
from collections import Counter as Numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import structlog
import trio
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.db import commands, quarantine
from engine.db.database import Database
from engine.events import Bus, Event
from engine.fleet import Fleet
from engine.host_states import LinkState
from engine.hosts import Hosts
from processes.metrics_page import DURATIONS, FRESH, MetricsPage
from protocol.errors import Error
from protocol.messages import LeaseRef
from protocol.record import Expectation

log = structlog.get_logger()

PREFIX = "leasehold_engine"
EVERY = 10.0  # seconds between two counts of what is in the database
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD")
# What a client asks for, by its path; of all else there is one label.
_RESOURCE = re.compile(
    r"/(?:ovirt-engine/api|leasehold/api/v1|ovirt-engine(?=/sso/))/([a-z]+)(?![^/.])"
)
RESOURCES = frozenset(
    (
        "clusters",
        "commands",
        "datacenters",
        "disks",
        "events",
        "hosts",
        "jobs",
        "leases",
        "me",
        "openapi",
        "quarantine",
        "snapshots",
        "sso",
        "storagedomains",
        "users",
        "webhooks",
    )
)


class Metrics(MetricsPage):
    """Everything that is measured of one engine."""

    def __init__(
        self,
        version: str,
        fleet: Fleet,
        bus: Bus,
        *,
        fresh: float = FRESH,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        super().__init__(fresh=fresh, now=now)
        self.copied = Copied()
        self.standing = Standing(fleet, bus, self.copied)
        self.registry.register(self.standing)
        self._bus = bus
        self._requests = Histogram(
            f"{PREFIX}_request_duration_seconds",
            "Time from request to the end of its answer.",
            ["method", "resource", "status"],
            buckets=DURATIONS,
            registry=self.registry,
        )
        self._questions = Histogram(
            f"{PREFIX}_question_duration_seconds",
            "Time of a question to a host about jobs: a round of jobs, a status, a fence.",
            ["question", "result"],
            buckets=DURATIONS,
            registry=self.registry,
        )
        self._ended = Counter(
            f"{PREFIX}_commands_ended_total",
            "Commands that have ended since the engine has started.",
            ["type", "state"],
            registry=self.registry,
        )
        self.streams = Gauge(
            f"{PREFIX}_event_streams", "Clients that follow events.", registry=self.registry
        )
        self.about(version, "the engine", PREFIX)

    async def listen(self) -> None:
        """Count what is told, until cancelled."""
        with self._bus.subscribed("job.progress", "command.changed") as heard:
            while True:
                self._take(await heard.receive())

    def _take(self, event: Event) -> None:
        if event.kind == "job.progress":
            self.copied.count(event.object, event.data)
        elif event.data.get("state") in ENDED:
            self.copied.forget(event.object)
            kind = str(event.data.get("type", ""))
            self._ended.labels(kind, str(event.data["state"])).inc()

    def asked(self, question: str, seconds: float, *, fine: bool) -> None:
        self._questions.labels(question, "ok" if fine else "failed").observe(seconds)

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        known = method if method in METHODS else "other"
        self._requests.labels(known, resource(path), str(status)).observe(seconds)


ENDED = frozenset(("succeeded", "failed", "aborted", "unresolved", "quarantined"))


def resource(path: str) -> str:
    """What a path is about, from a small set: clients choose paths."""
    found = _RESOURCE.match(path)
    name = found[1] if found else ""
    return name if name in RESOURCES else "other"


class Copied:
    """The bytes that the jobs of the engine have copied since it started, and how fast."""

    def __init__(self) -> None:
        self.total = 0
        self._seen: dict[str, tuple[int, float]] = {}  # bytes and rate, by command

    @property
    def rate(self) -> float:
        return sum(rate for _, rate in self._seen.values())

    @property
    def running(self) -> int:
        return len(self._seen)

    def count(self, command: str, progress: Mapping[str, Any]) -> None:
        done, rate = progress.get("bytes"), progress.get("rate")
        if not isinstance(done, int):
            return
        # What was copied before this engine was started is not counted.
        before = self._seen[command][0] if command in self._seen else done
        self.total += max(0, done - before)
        self._seen[command] = done, float(rate or 0.0)

    def forget(self, command: str) -> None:
        self._seen.pop(command, None)


class Standing(Collector):
    """What is read when it is asked for. commands: how many, by type and state."""

    def __init__(self, fleet: Fleet, bus: Bus, copied: Copied) -> None:
        self.commands: Mapping[tuple[str, str], int] = {}
        self.quarantine = 0
        self._fleet = fleet
        self._bus = bus
        self._copied = copied

    def describe(self) -> Iterator[Metric]:
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        hosts = GaugeMetricFamily(f"{PREFIX}_hosts", "Hosts, by state.", labels=["state"])
        numbers = Numbers(view.state for view in self._fleet.views())
        for state in LinkState:
            hosts.add_metric([state.value], numbers[state])
        yield hosts
        commands = GaugeMetricFamily(
            f"{PREFIX}_commands", "Commands in the database.", labels=["type", "state"]
        )
        for (kind, command_state), number in sorted(self.commands.items()):
            commands.add_metric([kind, command_state], number)
        yield commands
        yield GaugeMetricFamily(
            f"{PREFIX}_quarantined", "Objects in quarantine.", value=self.quarantine
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_copies_running", "Copies that run.", value=self._copied.running
        )
        yield CounterMetricFamily(
            f"{PREFIX}_copied_bytes_total",
            "Bytes that copies have copied since the engine has started.",
            value=self._copied.total,
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_copy_rate_bytes_per_second",
            "Rate of all running copies together.",
            value=self._copied.rate,
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_listeners", "Who listens to events.", value=self._bus.listeners
        )


async def keep_counted(standing: Standing, database: Database, every: float = EVERY) -> None:
    """Count what is in the database, now and then, until cancelled."""

    def look(c: Connection) -> tuple[dict[tuple[str, str], int], int]:
        return commands.counts(c), quarantine.count(c)

    while True:
        try:
            standing.commands, standing.quarantine = await database.read(look)
        except Error as e:
            log.info("commands are not counted", reason=str(e))
        await trio.sleep(every)


class MeasuredHosts:
    """Hosts for a poller, whose questions are timed."""

    def __init__(self, hosts: Hosts, metrics: Metrics) -> None:
        self._hosts = hosts
        self._metrics = metrics
        self.state = hosts.state
        self.candidates = hosts.candidates
        self.owner = hosts.owner

    async def jobs(self, host: str, job_ids: Sequence[str]) -> Mapping[str, Any]:
        with self._timed("jobs"):
            return await self._hosts.jobs(host, job_ids)

    async def lease_status(self, host: str, lease: LeaseRef) -> Mapping[str, Any]:
        with self._timed("lease_status"):
            return await self._hosts.lease_status(host, lease)

    async def fence(self, host: str, lease: LeaseRef, expected: Expectation) -> None:
        with self._timed("fence"):
            await self._hosts.fence(host, lease, expected)

    def _timed(self, question: str) -> "_Timed":
        return _Timed(self._metrics, question)


class _Timed:
    def __init__(self, metrics: Metrics, question: str) -> None:
        self._metrics = metrics
        self._question = question
        self._began = time.perf_counter()

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        took = time.perf_counter() - self._began
        self._metrics.asked(self._question, took, fine=kind is None)


class Measured:
    """An application whose requests are timed."""

    def __init__(self, application: ASGIApp, metrics: Metrics) -> None:
        self._application = application
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        status, began = 500, time.perf_counter()

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._application(scope, receive, sent)
        finally:
            took = time.perf_counter() - began
            self._metrics.answered(scope["method"], scope["path"], status, took)
