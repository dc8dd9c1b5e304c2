"""What thinking costs, as Prometheus sees it [A16]."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from libs.contracts.lives import OTHERS, Spent
from services.scheduler.spent import NONE, PAIRS_MOST, SpentMetrics


@pytest.mark.fact("A16")
def test_tokens_and_time_are_counted_by_swarm_and_role_and_series_are_bounded() -> None:
    registry = CollectorRegistry()
    spent = SpentMetrics(registry)
    spent.add("s", "scout", Spent(1, 100, 500))
    spent.add("s", "scout", Spent(1, 20, 500))
    spent.add(None, "scout", Spent(1, 3, 500))
    for number in range(PAIRS_MOST):
        spent.add(f"s{number}", "scout", Spent(1, 1, 500))

    def tokens(swarm: str, role: str) -> float | None:
        return registry.get_sample_value("perpetua_spent_tokens_total", {"swarm": swarm, "role": role})

    assert (tokens("s", "scout"), tokens(NONE, "scout"), tokens(OTHERS, OTHERS)) == (120, 3, 2)
    labels = {"swarm": "s", "role": "scout"}
    assert registry.get_sample_value("perpetua_spent_thinking_seconds_total", labels) == 1.0
    samples = [one for metric in registry.collect() for one in metric.samples]
    series = [one for one in samples if one.name.endswith("tokens_total")]
    assert len(series) == PAIRS_MOST + 1
