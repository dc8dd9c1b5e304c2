"""What the gateway counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class Refusals:
    """Requests and connections that were refused before a route was looked for, by reason."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "perpetua_http_refused_total",
            "Requests and connections refused before they were routed, by reason.",
            ["reason"],
            registry=registry,
        )

    def count(self, reason: str) -> None:
        """Count one."""
        self._counter.labels(reason).inc()
