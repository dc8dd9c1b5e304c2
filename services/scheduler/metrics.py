"""What a scheduler measures."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from libs.runtime.metrics import SECONDS, WeightedHistogram
from services.scheduler.spent import SpentMetrics


class SchedulerMetrics:
    """Metrics of ticking, granting and committing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Histogram(
            "perpetua_tick_lag_seconds",
            "From the time a persona was due to its dispatch.",
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
