"""Metrics of the agent for Prometheus. docs/metrics.md lists them; a test compares."""

import platform
import time
from collections.abc import Callable

import prometheus_client
import trio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from host.metrics_jobs import JobMetrics
from host.metrics_wire import WireMetrics
from host.outcome import FINE, bounded, code, method
from host.tasks import Tasks
from host.this_host import ThisHost
from host.verbs.table import VERBS
from host.wire.call import Call, Dispatch
from host.wire.server import Server
from protocol.errors import UnknownTask

FRESH = 1.0  # seconds for which a text is told again: who asks more often costs nothing
# Seconds. A status takes 2 ms; a lease that is created waits for others that are.
DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LEASE = "Lease."


class Metrics:
    """Everything that is measured of one host. Not thread safe: it belongs to the trio thread.

    server: that of the wire, once there is one.
    """

    def __init__(
        self,
        host: ThisHost,
        *,
        fresh: float = FRESH,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        # Else each counter has a twin with a time.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=True)
        self._fresh = fresh
        self._now = now
        self._texts: dict[str, tuple[float, bytes]] = {}  # when and what, by content type
        errors = Counter(
            "leasehold_errors_total",
            "Errors by their code: of calls, of tasks that a call has begun, of jobs.",
            ["source", "code"],
            registry=self.registry,
        )
        self.calls = Calls(host.tasks, self.registry, errors)
        self._jobs = JobMetrics(host.agent, self.registry, errors)
        self._wire = WireMetrics(self.registry)
        _about(host.version, self.registry)

    @property
    def server(self) -> Server | None:
        return self._wire.server

    @server.setter
    def server(self, server: Server) -> None:
        self._wire.server = server

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics, and their content type, as far as possible one that is accepted."""
        encoder, content_type = choose_encoder(accept)
        now = self._now()
        made, text = self._texts.get(content_type, (-self._fresh, b""))
        if not text or now - made >= self._fresh:
            text = encoder(self.registry)
            self._texts[content_type] = now, text
        return text, content_type


class Calls:
    """What became of the calls of verbs, and of the lease operations among them."""

    def __init__(self, tasks: Tasks, registry: CollectorRegistry, errors: Counter) -> None:
        self._tasks = tasks
        self._errors = errors
        self._calls = Counter(
            "leasehold_calls_total",
            "Calls by method and code of the answer; 0: it succeeded.",
            ["method", "code"],
            registry=registry,
        )
        self._times = Histogram(
            "leasehold_call_duration_seconds",
            "Time from call to answer.",
            ["method"],
            buckets=DURATIONS,
            registry=registry,
        )
        self._leases = Counter(
            "leasehold_lease_operations_total",
            "Lease operations by verb and code, that of its task where the verb has one.",
            ["verb", "code"],
            registry=registry,
        )
        self._lease_times = Histogram(
            "leasehold_lease_operation_duration_seconds",
            "Time that a lease operation takes.",
            ["verb"],
            buckets=DURATIONS,
            registry=registry,
        )
        for name in VERBS:  # what has not happened yet is 0, not absent
            if name.startswith(LEASE):
                self._leases.labels(name.removeprefix(LEASE), FINE)

    def ended(
        self, call: Call, seconds: float, result: object, error: BaseException | None
    ) -> None:
        """Count a call that took `seconds`."""
        name, number = method(call.method), code(error)
        self._calls.labels(name, number).inc()
        self._times.labels(name).observe(seconds)
        if number != FINE:
            self._errors.labels("call", number).inc()
        elif name in VERBS and VERBS[name].task:
            number = self._task(result)
        if name.startswith(LEASE):
            verb = name.removeprefix(LEASE)
            self._leases.labels(verb, number).inc()
            self._lease_times.labels(verb).observe(seconds)

    def _task(self, task_id: object) -> str:
        """The code of the task that a call has begun and ended."""
        try:
            task = self._tasks.get(str(task_id))
        except UnknownTask:
            return FINE  # a thousand others have ended since
        if task.error is None:
            return FINE
        number = bounded(task.error["code"])
        self._errors.labels("task", number).inc()
        return number


def measured(
    dispatch: Dispatch, metrics: Metrics, now: Callable[[], float] = time.perf_counter
) -> Dispatch:
    """`dispatch`, with every call counted and timed, those that are cancelled too."""

    async def counted(call: Call) -> object:
        began = now()
        result, error = None, None
        try:
            result = await dispatch(call)
        except BaseException as e:
            error = e
            raise
        finally:
            metrics.calls.ended(call, now() - began, result, error)
        return result

    return counted


def _about(version: str, registry: CollectorRegistry) -> None:
    build = Gauge(
        "leasehold_build_info",
        "The version of leasehold and of Python; always 1.",
        ["version", "python"],
        registry=registry,
    )
    build.labels(version, platform.python_version()).set(1)
    began = Gauge(
        "leasehold_start_time_seconds",
        "When the agent has started, in seconds since the epoch.",
        registry=registry,
    )
    began.set_to_current_time()
    ProcessCollector(registry=registry)
