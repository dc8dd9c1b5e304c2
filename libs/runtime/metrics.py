"""Metrics that every process has. Names carry units; no label takes ids of personas or swarms."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from math import inf

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from libs.bus.telemetry import BusFault, MessageHandled
from libs.contracts.presence import StageTimes

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Histogram bounds for durations, in seconds."""

_FAULTS = ("connection", "denied", "slow_consumer", "unreadable")


class WeightedHistogram(Collector):
    """A histogram that notes a value for many at once, and the extremes, as `prometheus_client`'s cannot."""

    def __init__(
        self, name: str, documentation: str, *, buckets: tuple[float, ...], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = buckets
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0
        self._least = inf
        self._most = 0.0
        registry.register(self)

    def observe(self, value: float, count: int = 1) -> None:
        """Note a value of `count` things."""
        if count <= 0:
            return
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count
        self._least, self._most = min(self._least, value), max(self._most, value)

    def times(self) -> StageTimes | None:
        """Return count, sum and extremes of what was noted, if anything was."""
        count = sum(self._counts)
        if not count:
            return None
        return StageTimes(count=count, least_s=self._least, sum_s=self._sum, most_s=self._most)

    def collect(self) -> Iterable[Metric]:
        """Yield what was noted so far."""
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(self._counts)), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)


class ProcessMetrics:
    """The registry of a process, and the bus telemetry as metrics."""

    def __init__(self, service: str, instance: str, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        info = Info("perpetua_process", "What this process is.", registry=self.registry)
        info.info({"service": service, "instance": instance, "version": version})
        self._messages = Counter(
            "perpetua_messages_handled_total",
            "Messages settled, by loop and outcome.",
            ["loop", "outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "perpetua_message_handling_seconds",
            "Time from a message's receipt to its settlement.",
            ["loop"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._handled: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self.last_handled: tuple[str, float] | None = None
        """The loop whose message was settled last, and when by the wall clock."""

        self._faults = Counter(
            "perpetua_bus_faults_total",
            "Faults of the broker connection that no caller sees, by kind.",
            ["kind"],
            registry=self.registry,
        )
        for kind in _FAULTS:  # from zero on: `increase` does not see a series that begins with 1
            self._faults.labels(kind)
        self.spans_dropped = Counter(
            "perpetua_spans_dropped_total",
            "Spans of traces that were lost: the collector was away, or too slow.",
            registry=self.registry,
        )
        self.ready = Gauge(
            "perpetua_ready", "1 while this process does its work, else 0.", registry=self.registry
        )

    def handled(self, details: MessageHandled) -> None:
        """Count a settled message."""
        key = (details.loop, details.outcome)
        if key not in self._handled:
            self._handled[key] = (self._messages.labels(*key), self._seconds.labels(details.loop))
        messages, seconds = self._handled[key]
        messages.inc()
        seconds.observe(details.seconds)
        self.last_handled = (details.loop, time.time())

    def fault(self, details: BusFault) -> None:
        """Count a fault of the bus."""
        self._faults.labels(details.kind).inc()
