"""What a compressor measures."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable

from prometheus_client import Counter, Gauge

from libs.contracts import streams
from libs.runtime.metrics import ProcessMetrics
from services.compressor.folding import Publication


class CompressorMetrics:
    """Metrics of publishing."""

    def __init__(self, process: ProcessMetrics) -> None:
        self.telemetry = process
        registry = process.registry
        self._events = Counter(
            "perpetua_events_published_total", "Events published.", ["event_type"], registry=registry
        )
        self._snapshots = Counter(
            "perpetua_snapshots_published_total", "Memory snapshots published.", registry=registry
        )
        self._proposals = Counter("perpetua_proposals_stored_total", "Proposals stored.", registry=registry)
        self.position = Gauge(
            "perpetua_published_journal_sequence",
            "Journal sequence up to which everything is public.",
            registry=registry,
        )
        self.in_charge = Gauge(
            "perpetua_publishing", "1 while this compressor publishes, 0 on standby.", registry=registry
        )

    def stored(self, publications: Iterable[Publication]) -> None:
        """Count messages that are stored."""
        counts = Counts((publication.stream, publication.event_type) for publication in publications)
        for (stream, event_type), count in counts.items():
            if stream == streams.EVENTS:
                self._events.labels(event_type).inc(count)
            elif stream == streams.SNAPSHOTS:
                self._snapshots.inc(count)
            else:
                self._proposals.inc(count)
