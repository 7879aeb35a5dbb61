"""Metrics of the agent for Prometheus. docs/metrics.md lists them; a test compares."""

import time
from collections.abc import Callable

import trio
from prometheus_client import CollectorRegistry, Counter, Histogram

from host.metrics_jobs import JobMetrics
from host.metrics_wire import WireMetrics
from host.outcome import FINE, bounded, code, method
from host.tasks import Tasks
from host.this_host import ThisHost
from host.verbs.table import VERBS
from host.wire.call import Call, Dispatch
from host.wire.server import Server
from processes.metrics_page import DURATIONS, FRESH, MetricsPage
from protocol.errors import UnknownTask

LEASE = "Lease."


class Metrics(MetricsPage):
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
        super().__init__(fresh=fresh, now=now)
        errors = Counter(
            "leasehold_errors_total",
            "Errors by their code: of calls, of tasks that a call has begun, of jobs.",
            ["source", "code"],
            registry=self.registry,
        )
        self.calls = Calls(host.tasks, self.registry, errors)
        self._jobs = JobMetrics(host.agent, self.registry, errors)
        self._wire = WireMetrics(self.registry)
        self.about(host.version, "the agent")

    @property
    def server(self) -> Server | None:
        return self._wire.server

    @server.setter
    def server(self, server: Server) -> None:
        self._wire.server = server


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
