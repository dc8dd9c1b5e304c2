"""Metrics that every process has. Names carry units; no label takes ids of personas or swarms."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from libs.bus.telemetry import BusFault, MessageHandled

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Histogram bounds for durations, in seconds."""


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
        self._faults = Counter(
            "perpetua_bus_faults_total",
            "Faults of the broker connection that no caller sees, by kind.",
            ["kind"],
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

    def fault(self, details: BusFault) -> None:
        """Count a fault of the bus."""
        self._faults.labels(details.kind).inc()
