"""The metrics of a service as Prometheus reads them."""

import platform
from collections.abc import Callable

import prometheus_client
import trio
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.exposition import choose_encoder

FRESH = 1.0  # seconds for which a text is told again: who asks more often costs nothing
# Seconds. A status takes 2 ms; a lease that is created waits for others that are.
DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class MetricsPage:
    """The registry, and its text. Not thread safe: it belongs to the trio thread."""

    def __init__(
        self, *, fresh: float = FRESH, now: Callable[[], float] = trio.current_time
    ) -> None:
        # Else each counter has a twin with a time.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=True)
        self._fresh = fresh
        self._now = now
        self._texts: dict[str, tuple[float, bytes]] = {}  # when and what, by content type

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics, and their content type, as far as possible one that is accepted."""
        encoder, content_type = choose_encoder(accept)
        now = self._now()
        made, text = self._texts.get(content_type, (-self._fresh, b""))
        if not text or now - made >= self._fresh:
            text = encoder(self.registry)
            self._texts[content_type] = now, text
        return text, content_type

    def about(self, version: str, service: str, prefix: str = "leasehold") -> None:
        """Tell of this process, too. service: what it is called in a sentence."""
        build = Gauge(
            f"{prefix}_build_info",
            "The version of leasehold and of Python; always 1.",
            ["version", "python"],
            registry=self.registry,
        )
        build.labels(version, platform.python_version()).set(1)
        began = Gauge(
            f"{prefix}_start_time_seconds",
            f"When {service} has started, in seconds since the epoch.",
            registry=self.registry,
        )
        began.set_to_current_time()
        ProcessCollector(registry=self.registry)
