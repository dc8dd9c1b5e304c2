"""What thinking costs, by swarm and role, for Prometheus [A16]. `perpetua spend` has it whole."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from libs.contracts.journal import Effort

PAIRS_MOST = 200
"""Pairs of swarm and role with series of their own: Prometheus keeps each for weeks."""

OTHERS = "(others)"
NONE = "(none)"
"""The swarm of those who have none."""


class SpentMetrics:
    """Counts the tokens and the time of stored thoughts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["swarm", "role"]
        self._tokens = Counter(
            "perpetua_spent_tokens_total", "Tokens of stored thoughts.", labels, registry=registry
        )
        self._thinking = Counter(
            "perpetua_spent_thinking_seconds_total",
            "Time that stored thoughts were thought for.",
            labels,
            registry=registry,
        )
        self._series: dict[tuple[str, str], tuple[Counter, Counter]] = {}

    def add(self, swarm_id: str | None, effort: Effort) -> None:
        """Count a thought. Of more pairs than are kept, the newest count together."""
        pair = swarm_id or NONE, effort.role
        if pair not in self._series:
            if len(self._series) >= PAIRS_MOST:
                pair = OTHERS, OTHERS
            self._series.setdefault(pair, (self._tokens.labels(*pair), self._thinking.labels(*pair)))
        tokens, thinking = self._series[pair]
        tokens.inc(effort.tokens)
        thinking.inc(effort.cpu_ms / 1000)
