"""What Prometheus is told of the jobs of an agent and of its queue."""

from collections import Counter as Numbers
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from host.agent import Agent
from host.outcome import code
from jobs.job import Job
from jobs.status import Status

ACTIVE = (Status.RUNNING, Status.ABORTING)


class JobMetrics(Collector):
    """Gauges are read when they are asked for; moves of jobs are counted as they happen."""

    def __init__(self, agent: Agent, registry: CollectorRegistry, errors: Counter) -> None:
        """errors: by source and code."""
        self._agent = agent
        self._errors = errors
        self._ended = Counter(
            "leasehold_jobs_ended_total",
            "Jobs that have ended since the start of the agent.",
            ["status"],
            registry=registry,
        )
        for status in Status:
            if status.ended:
                self._ended.labels(status.value)
        self._copied = _Copied(agent.registry.list())
        agent.registry.watch(self._moved)
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        jobs = self._agent.registry.list()
        yield from self._of_jobs(jobs)
        yield from self._of_queue()
        lost = "leasehold_events_lost_total", "Events that a reader had no room for."
        yield CounterMetricFamily(*lost, value=self._agent.registry.lost)

    def _of_jobs(self, jobs: tuple[Job, ...]) -> Iterator[Metric]:
        held = GaugeMetricFamily(
            "leasehold_jobs",
            "Jobs that the agent knows, those that have ended too.",
            labels=["status"],
        )
        numbers = Numbers(job.status for job in jobs)
        for status in Status:
            held.add_metric([status.value], numbers[status])
        yield held
        active = [job for job in jobs if job.status in ACTIVE]
        for job in active:
            self._copied.count(job)
        yield CounterMetricFamily(
            "leasehold_copied_bytes_total",
            "Bytes that jobs have copied since the start of the agent.",
            value=self._copied.total,
        )
        yield GaugeMetricFamily(
            "leasehold_copy_rate_bytes_per_second",
            "Rate of all running copies together, as they measure it.",
            value=sum(job.progress.rate or 0.0 for job in active),
        )

    def _of_queue(self) -> Iterator[Metric]:
        queue = self._agent.queue
        for name, about, value in (
            ("waiting", "Jobs that wait for their turn.", len(queue.waiting)),
            ("running", "Jobs that run in their turn.", queue.running),
            ("concurrency", "Jobs that run at once, at most.", queue.concurrency),
            ("paused", "1: no job is started, the host is drained. 0: jobs are.", queue.paused),
        ):
            yield GaugeMetricFamily(f"leasehold_queue_{name}", about, value=float(value))
        yield GaugeMetricFamily(
            "leasehold_queue_limit_bytes_per_second",
            "Limit of the rate of all copies together; +Inf: none.",
            value=float("inf") if queue.total is None else queue.total,
        )

    def _moved(self, job: Job) -> None:
        if not job.status.ended:
            return
        self._ended.labels(job.status.value).inc()
        self._copied.end(job)
        if job.status is Status.FAILED:
            self._errors.labels("job", code(job.error)).inc()


class _Copied:
    """The bytes that were copied since the agent has started. It never falls."""

    def __init__(self, known: tuple[Job, ...]) -> None:
        """known: of these, those that run already have begun in a former life of the agent."""
        self.total = 0
        self._former = {job.id for job in known if not job.status.ended and "started" in job.info()}
        self._seen: dict[str, int] = {}  # by the id of each job that runs

    def count(self, job: Job) -> None:
        done = job.progress.bytes
        if done is None:
            return
        before = self._seen.get(job.id, done if job.id in self._former else 0)
        self.total += done - before  # progress never runs backwards
        self._seen[job.id] = done

    def end(self, job: Job) -> None:
        self.count(job)
        self._seen.pop(job.id, None)
        self._former.discard(job.id)
