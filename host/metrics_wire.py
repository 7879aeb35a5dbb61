"""What Prometheus is told of the clients that are connected."""

from collections import Counter as Numbers
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from host.wire.call import ROLES
from host.wire.server import Server


class WireMetrics(Collector):
    """server: None as long as there is none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.server: Server | None = None
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        sessions = () if self.server is None else self.server.sessions
        connected = GaugeMetricFamily(
            "leasehold_sessions", "Clients that are connected, by role.", labels=["role"]
        )
        numbers = Numbers(session.peer.role for session in sessions)
        for role in ROLES:
            connected.add_metric([role], numbers[role])
        yield connected
        yield GaugeMetricFamily(
            "leasehold_calls_in_flight",
            "Requests, a batch counting as one, that were begun and not answered.",
            value=sum(session.in_flight for session in sessions),
        )
        yield GaugeMetricFamily(
            "leasehold_session_memory_bytes",
            "Memory that clients make the agent keep.",
            value=0 if self.server is None else self.server.memory,
        )
