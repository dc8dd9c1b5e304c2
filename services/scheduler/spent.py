"""What thinking costs, by swarm and role, for Prometheus [A16]. `perpetua spend` has it whole."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from libs.contracts.lives import OTHERS, Spent

PAIRS_MOST = 200
"""Pairs of swarm and role with series of their own: Prometheus keeps each for weeks."""

NONE = "(none)"
"""The swarm of those who have none."""


class SpentMetrics:
    """Counts the tokens and the time of stored thoughts and roll-ups."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["swarm", "role"]
        self._tokens = Counter(
            "perpetua_spent_tokens_total",
            "Tokens of stored thoughts and roll-ups.",
            labels,
            registry=registry,
        )
        self._thinking = Counter(
            "perpetua_spent_thinking_seconds_total",
            "Time that stored thoughts and roll-ups were thought for.",
            labels,
            registry=registry,
        )
        self._series: dict[tuple[str, str], tuple[Counter, Counter]] = {}

    def add(self, swarm_id: str | None, role: str, spent: Spent) -> None:
        """Count what was spent. Of more pairs than are kept, the newest count together."""
        pair = swarm_id or NONE, role
        if pair not in self._series:
            if len(self._series) >= PAIRS_MOST:
                pair = OTHERS, OTHERS
            self._series.setdefault(pair, (self._tokens.labels(*pair), self._thinking.labels(*pair)))
        tokens, thinking = self._series[pair]
        tokens.inc(spent.tokens)
        thinking.inc(spent.cpu_ms / 1000)
