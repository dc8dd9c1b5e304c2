"""What a compressor measures."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable

from prometheus_client import Counter, Gauge

from libs.contracts import streams
from libs.contracts.rollups import RollUpRequest
from libs.contracts.thoughts import Source
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
        rollups = Counter(
            "perpetua_roll_ups_total",
            "Memories of swarms that are rolled up in the journal, by what made the summary.",
            ["source"],
            registry=registry,
        )
        self._rollups = {source: rollups.labels(source.value) for source in Source}
        self._rollups_lost = Counter(
            "perpetua_roll_ups_lost_total",
            "Roll-ups that no shard's owner took in time.",
            registry=registry,
        )
        self._left_out = Counter(
            "perpetua_roll_up_snapshots_left_out_total",
            "Shared snapshots that no roll-up folds in: newer ones came, there are too many swarms, or "
            "another compressor has taken over.",
            registry=registry,
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

    def rolled_up(self, request: RollUpRequest, *, stored: bool) -> None:
        """Count a roll-up."""
        if stored:
            self._rollups[request.source].inc()
        else:
            self._rollups_lost.inc()

    def left_out(self, snapshots: int) -> None:
        """Count shared snapshots that no roll-up folds in."""
        self._left_out.inc(snapshots)

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
