"""Metrics that every process has, and what a thinker and a compressor count."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from libs.bus.telemetry import BusFault, MessageHandled
from libs.cognition.compose import Answer, failed
from libs.contracts import streams
from libs.contracts.thoughts import Usage
from libs.runtime.metrics import SECONDS, ProcessMetrics, WeightedHistogram
from services.compressor.folding import Publication
from services.compressor.metrics import CompressorMetrics
from services.scheduler.metrics import SchedulerMetrics
from services.thinker.metrics import ThinkerMetrics


def process() -> ProcessMetrics:
    return ProcessMetrics("registry", "registry-1", "0.1.0")


def test_a_process_says_what_it_is() -> None:
    labels = {"service": "registry", "instance": "registry-1", "version": "0.1.0"}
    assert process().registry.get_sample_value("perpetua_process_info", labels) == 1


def test_settled_messages_are_counted_by_loop_and_outcome() -> None:
    metrics = process()
    for outcome in ("done", "done", "retry"):
        metrics.handled(MessageHandled("think", outcome, 0.2))
    value = metrics.registry.get_sample_value
    assert value("perpetua_messages_handled_total", {"loop": "think", "outcome": "done"}) == 2
    assert value("perpetua_messages_handled_total", {"loop": "think", "outcome": "retry"}) == 1
    assert value("perpetua_message_handling_seconds_count", {"loop": "think"}) == 3
    assert value("perpetua_message_handling_seconds_sum", {"loop": "think"}) == pytest.approx(0.6)


def test_faults_of_the_bus_are_counted_by_kind() -> None:
    metrics = process()
    metrics.fault(BusFault("slow_consumer", "s", "dropped"))
    assert metrics.registry.get_sample_value("perpetua_bus_faults_total", {"kind": "slow_consumer"}) == 1


@pytest.mark.parametrize("kind", ["connection", "denied", "slow_consumer", "unreadable"])
def test_faults_begin_at_zero_so_that_an_increase_sees_the_first(kind: str) -> None:
    assert process().registry.get_sample_value("perpetua_bus_faults_total", {"kind": kind}) == 0


def test_two_processes_metrics_do_not_meet() -> None:
    one, other = process(), process()
    one.fault(BusFault("denied", "", ""))
    assert other.registry.get_sample_value("perpetua_bus_faults_total", {"kind": "denied"}) == 0


def test_a_process_shows_its_cpu_and_memory_in_the_usual_names() -> None:
    shown = generate_latest(process().registry).decode()
    assert "process_cpu_seconds_total " in shown
    assert "process_resident_memory_bytes " in shown
    assert "python_gc_collections_total" in shown


def thinker() -> tuple[ThinkerMetrics, CollectorRegistry]:
    registry = CollectorRegistry()
    return ThinkerMetrics(registry, lambda: 7), registry


def test_only_thoughts_by_a_model_count_towards_inference() -> None:
    metrics, registry = thinker()
    metrics.answered(Answer(text="Yes.", usage=Usage(prompt_tokens=10, completion_tokens=4)), 0.5)
    metrics.answered(failed(None), 0.0)
    value = registry.get_sample_value
    assert value("perpetua_inference_seconds_count") == 1
    assert value("perpetua_thoughts_total", {"source": "model"}) == 1
    assert value("perpetua_thoughts_total", {"source": "fallback"}) == 1
    assert value("perpetua_thought_failures_total") == 0, "a fallback that was chosen is no failure"
    assert value("perpetua_tokens_total", {"kind": "prompt"}) == 10
    assert value("perpetua_tokens_total", {"kind": "completion"}) == 4
    assert value("perpetua_thoughts_in_hand") == 7


@pytest.mark.parametrize("answer", [failed("away"), Answer(text=""), Answer(text=" \n ")])
def test_an_error_and_a_blank_answer_are_failures(answer: Answer) -> None:
    metrics, registry = thinker()
    metrics.answered(answer, 0.5)
    assert registry.get_sample_value("perpetua_thought_failures_total") == 1
    assert registry.get_sample_value("perpetua_thoughts_total", {"source": "fallback"}) == 1
    assert registry.get_sample_value("perpetua_inference_seconds_count") == 0


def test_who_is_not_asked_does_not_fail() -> None:
    metrics, registry = thinker()
    metrics.answered(Answer(error="left alone", asked=False), 0.0)
    metrics.declared(2)
    assert registry.get_sample_value("perpetua_thought_failures_total") == 0
    assert registry.get_sample_value("perpetua_thoughts_total", {"source": "fallback"}) == 3


def test_a_compressor_counts_what_it_publishes() -> None:
    metrics = process()
    compressor = CompressorMetrics(metrics)
    for stream, kind in [
        (streams.EVENTS, "check_result"),
        (streams.EVENTS, "check_result"),
        (streams.SNAPSHOTS, ""),
        (streams.PROPOSALS, ""),
    ]:
        compressor.stored([Publication(stream, (1, 1), "s", b"", kind)])
    value = metrics.registry.get_sample_value
    assert value("perpetua_events_published_total", {"event_type": "check_result"}) == 2
    assert value("perpetua_snapshots_published_total") == 1
    assert value("perpetua_proposals_stored_total") == 1


def test_no_metric_has_a_label_that_grows_with_personas() -> None:
    metrics = process()
    SchedulerMetrics(metrics.registry)
    CompressorMetrics(metrics)
    ThinkerMetrics(metrics.registry, lambda: 0)
    labels = {name for family in metrics.registry.collect() for s in family.samples for name in s.labels}
    assert labels <= {
        "service",
        "instance",
        "version",
        "le",
        "generation",
        "source",
        "kind",
        "loop",
        "outcome",
    }


def test_a_weighted_histogram_says_what_the_librarys_own_would() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    weighted = WeightedHistogram("wait_seconds", "Waiting.", buckets=SECONDS, registry=ours)
    plain = Histogram("wait_seconds", "Waiting.", buckets=SECONDS, registry=theirs)
    for value, count in [(0.0, 1), (0.5, 3), (0.25, 2), (60.0, 1), (61.0, 5)]:
        weighted.observe(value, count)
        for _ in range(count):
            plain.observe(value)
    said = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    assert generate_latest(ours).decode().splitlines() == said
