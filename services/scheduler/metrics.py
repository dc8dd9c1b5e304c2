"""What a scheduler measures."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from libs.contracts.journal import Effort
from libs.runtime.metrics import SECONDS, WeightedHistogram
from services.scheduler.spent import SpentMetrics

COMPLETED, FAILED, FALLBACK, SKIPPED = "completed", "failed", "fallback", "skipped"
"""What becomes of a tick: a thought of a model, one without its answer, one that needs none, or nothing."""


class SchedulerMetrics:
    """Metrics of ticking, granting and committing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Histogram(
            "perpetua_tick_lag_seconds",
            "From the time a persona was due to its dispatch; under `adaptive` to its look.",
            buckets=SECONDS,
            registry=registry,
        )
        self.queue_wait = WeightedHistogram(
            "perpetua_queue_wait_seconds",
            "From the dispatch of a thought to its grant to a thinker.",
            buckets=SECONDS,
            registry=registry,
        )
        self.skipped = Counter(
            "perpetua_ticks_skipped_total",
            "Ticks skipped because the persona's last thought was still under way.",
            registry=registry,
        )
        self.stored = Counter("perpetua_thoughts_stored_total", "Thoughts committed.", registry=registry)
        self.stale = Counter(
            "perpetua_thoughts_stale_total",
            "Thoughts that came too late to be stored: thought twice, withdrawn, or of a reaped persona.",
            registry=registry,
        )
        self.withdrawn = Counter(
            "perpetua_thoughts_withdrawn_total",
            "Thoughts settled without their model's answer because the loop stopped.",
            registry=registry,
        )
        self.dead = Counter(
            "perpetua_chunks_dead_total",
            "Chunks of work given up after too many deliveries.",
            registry=registry,
        )
        self.settle = WeightedHistogram(
            "perpetua_tick_to_stored_seconds",
            "From the dispatch of a thought to its record in the journal.",
            buckets=SECONDS,
            registry=registry,
        )
        self.total = WeightedHistogram(
            "perpetua_thought_seconds",
            "From the dispatch of a thought that a model completed to its record in the journal.",
            buckets=SECONDS,
            registry=registry,
        )
        settled = Counter(
            "perpetua_thoughts_settled_total",
            "Thoughts stored: completed by a model, failed although one was asked, or declared fallbacks.",
            ["outcome"],
            registry=registry,
        )
        self._settled = {outcome: settled.labels(outcome) for outcome in (COMPLETED, FAILED, FALLBACK)}
        self._outcomes: dict[str, int] = dict.fromkeys(self._settled, 0)
        self.shards = Gauge("perpetua_shards_owned", "Shards this process owns.", registry=registry)
        self.in_flight = Gauge("perpetua_thoughts_in_flight", "Thoughts under way.", registry=registry)
        self.behind = Gauge(
            "perpetua_thoughts_behind_seconds", "Age of the oldest thought under way.", registry=registry
        )
        self.takeovers = Counter("perpetua_shard_takeovers_total", "Shards taken over.", registry=registry)
        self.looks = Counter(
            "perpetua_looks_total",
            "Looks of personas whether they have reason to think, under `adaptive`.",
            registry=registry,
        )
        self.paused = Counter(
            "perpetua_budget_pauses_total", "Times that a persona ran out of credits.", registry=registry
        )
        self.inbox_received = Counter(
            "perpetua_inbox_received_total", "Items that came into inboxes.", registry=registry
        )
        self.inbox_handled = Counter(
            "perpetua_inbox_items_total",
            "Items that thoughts took up, by what became of them.",
            ["outcome"],
            registry=registry,
        )
        self.inbox_dropped = Counter(
            "perpetua_inbox_dropped_total",
            "Items that left an inbox, or never came into one, without being handled, by reason.",
            ["reason"],
            registry=registry,
        )
        self.spent = SpentMetrics(registry)
        self.fenced = Counter(
            "perpetua_shards_fenced_total", "Shards lost to another process's append.", registry=registry
        )

    def thought_settled(self, effort: Effort | None) -> str:
        """Count a stored thought and return what became of it [H16]."""
        outcome = outcome_of(effort)
        self._settled[outcome].inc()
        self._outcomes[outcome] += 1
        return outcome

    def tick_skipped(self, count: int) -> None:
        """Count ticks that were skipped."""
        self.skipped.inc(count)
        self._outcomes[SKIPPED] = self._outcomes.get(SKIPPED, 0) + count

    def outcomes(self) -> dict[str, int]:
        """Return what became of thoughts and ticks since this process started."""
        return dict(self._outcomes)


def outcome_of(effort: Effort | None) -> str:
    """Return what became of a thought, by what it cost."""
    if effort is None:
        return FALLBACK
    if effort.by_model:
        return COMPLETED
    return FAILED if effort.failed and effort.asked else FALLBACK
