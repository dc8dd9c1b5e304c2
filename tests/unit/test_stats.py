"""How long thoughts took and what became of them, measured and put together [H16]."""

from __future__ import annotations

import os
from typing import Any

import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry

from libs.cognition.compose import Answer, compose, failed
from libs.contracts.journal import ThoughtEntry
from libs.contracts.presence import PresenceRecord, StageTimes
from libs.runtime.metrics import SECONDS, WeightedHistogram
from libs.supervisor.stats import lines, stats
from services.scheduler.dispatches import Age, Dispatches
from services.scheduler.metrics import SchedulerMetrics
from services.thinker.backends.fallback import Fallback
from tests.unit.make import NOW, chunk, entry, item, thought


def settled(persona_id: str, answer: Answer) -> ThoughtEntry:
    return compose(item(persona_id), 1, answer, NOW)


def record(**more: Any) -> PresenceRecord:
    return PresenceRecord(
        service="s", instance="i", boot="b", pid=os.getpid(), host="h", ready=True, since=NOW, restarts=0,
        **more,
    )  # fmt: skip


@pytest.mark.fact("H16")
def test_only_completed_thoughts_count_towards_the_total() -> None:
    table, work = Dispatches(), chunk("c", "a", "b", "c")
    table.begin(*entry(work), 4.0, 5)
    thoughts = [thought("a"), settled("b", failed("HTTP 500")), settled("c", Answer(asked=False))]
    assert table.ages(thoughts, 10.0) == [Age(seconds=6.0, count=3, completed=1)]


@pytest.mark.fact("H16")
def test_skipped_failed_and_fallback_are_counted_apart() -> None:
    registry = CollectorRegistry()
    metrics = SchedulerMetrics(registry)
    none = Fallback("nothing", "no model: none was given").always
    assert none is not None
    left_alone = Answer(error="left alone", asked=False, outage=True)
    said = [Answer(text="So.", model="m"), failed("HTTP 500"), Answer(asked=False), failed("HTTP 429"), none]
    for answer in [*said, left_alone]:
        metrics.thought_settled(settled("p", answer).effort)
    metrics.tick_skipped(3)
    assert metrics.outcomes() == {"completed": 1, "failed": 2, "fallback": 3, "skipped": 3}
    for outcome, count in (("completed", 1), ("failed", 2), ("fallback", 3)):
        name = "perpetua_thoughts_settled_total"
        assert registry.get_sample_value(name, {"outcome": outcome}) == count
    assert registry.get_sample_value("perpetua_ticks_skipped_total") == 3


@pytest.mark.fact("H16")
def test_a_histogram_knows_its_extremes() -> None:
    made = WeightedHistogram("x_seconds", "X.", buckets=SECONDS, registry=CollectorRegistry())
    assert made.times() is None
    made.observe(9.0, 0)
    assert made.times() is None, "of none there is nothing to know"
    made.observe(0.5)
    made.observe(0.25, 3)
    assert made.times() == StageTimes(count=4, least_s=0.25, sum_s=1.25, most_s=0.5)


@pytest.mark.fact("H16")
def test_what_processes_say_of_themselves_is_put_together_over_the_run() -> None:
    one = StageTimes(count=3, least_s=0.010, sum_s=0.060, most_s=0.030)
    found = stats(
        [
            record(stages={"inference": one}),
            record(stages={"inference": structs.replace(one, count=1, least_s=0.002, sum_s=0.020)}),
            record(stages={"total": one}, outcomes={"completed": 4, "skipped": 1}),
            record(outcomes={"completed": 2}),
        ]
    )
    assert found.outcomes == {"completed": 6, "skipped": 1}
    inference, total = found.stages
    assert (inference.stage, inference.count) == ("inference", 4)
    assert (inference.min_ms, inference.mean_ms, inference.max_ms) == (2.0, 20.0, 30.0)
    assert (total.stage, total.count) == ("total", 3)
    assert lines(found)[0] == "thoughts  6 completed, 1 skipped"
    assert "min 2.0, mean 20.0, max 30.0 ms (4)" in lines(found)[1]
    assert lines(stats([record()])) == []
