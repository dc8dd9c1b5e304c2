"""What each process tells operators: metrics, liveness, readiness, logs with fields."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.eventually import eventually_sync
from tests.support.http import fetch
from tests.support.swarm import Swarm, swarm

EVERYWHERE = {
    "perpetua_process_info",
    "perpetua_ready",
    "perpetua_messages_handled",
    "perpetua_message_handling_seconds",
    "perpetua_bus_faults",
    "process_resident_memory_bytes",
    "process_cpu_seconds",
}
MATRIX = {
    "registry": {"perpetua_personas", "perpetua_registry_journal_records"},
    "scheduler": {
        "perpetua_tick_lag_seconds", "perpetua_ticks_skipped", "perpetua_thoughts_stored",
        "perpetua_thoughts_stale", "perpetua_thoughts_withdrawn", "perpetua_chunks_dead",
        "perpetua_shards_owned", "perpetua_thoughts_in_flight", "perpetua_shard_takeovers",
        "perpetua_shards_fenced", "perpetua_thoughts_behind_seconds",
        "perpetua_queue_wait_seconds", "perpetua_tick_to_stored_seconds",
    },
    "thinker": {
        "perpetua_inference_seconds", "perpetua_settle_seconds",
        "perpetua_thoughts", "perpetua_thought_failures", "perpetua_tokens", "perpetua_thoughts_in_hand",
        "perpetua_endpoint_requests", "perpetua_endpoint_circuit",
        "perpetua_endpoint_circuit_opened", "perpetua_captures",
        "perpetua_context_dropped", "perpetua_charters_trimmed", "perpetua_batch_rows",
        "perpetua_batch_fill_ratio", "perpetua_batch_wait_seconds", "perpetua_batch_inference_seconds",
        "perpetua_batch_faults",
    },
    "compressor": {
        "perpetua_events_published", "perpetua_snapshots_published", "perpetua_proposals_stored",
        "perpetua_published_journal_sequence", "perpetua_publishing",
    },
    "gateway": {"perpetua_sse_clients", "perpetua_http_connections", "perpetua_http_refused"},
}  # fmt: skip


@pytest.fixture(scope="module")
def running() -> Iterator[Swarm]:
    with swarm(settings={"LOOP_INTERVAL_MS": "100"}) as brought_up:
        eventually_sync(lambda: brought_up.get("/v1/cognition/snapshots")["snapshots"], 40)
        yield brought_up


def fetched(running: Swarm, service: str, path: str) -> tuple[int, str]:
    answer = fetch(f"http://127.0.0.1:{running.metrics_ports(MATRIX)[service]}{path}")
    return answer.status, answer.text


@pytest.mark.parametrize("service", MATRIX)
def test_each_service_emits_its_metrics_with_units_and_without_ids(running: Swarm, service: str) -> None:
    _, text = fetched(running, service, "/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    missing = (EVERYWHERE | MATRIX[service]) - families.keys()
    assert missing == set()
    labels = {
        value for family in families.values() for sample in family.samples for value in sample.labels.values()
    }
    assert not any("root-thinker" in value for value in labels)
    assert all(family.documentation for family in families.values())


def value(running: Swarm, service: str, name: str) -> float:
    _, text = fetched(running, service, "/metrics")
    samples = [s for f in text_string_to_metric_families(text) for s in f.samples if s.name == name]
    return sum(sample.value for sample in samples)


def published(running: Swarm) -> bool:
    """Whether the events are those that are counted: what a stop has stored is published a moment later."""
    counted = value(running, "compressor", "perpetua_events_published_total")
    return bool(counted == running.get("/v1/cognition/events?limit=1")["last_sequence"])


def test_what_is_counted_is_what_happened(running: Swarm) -> None:
    running.post("/v1/cognition/stop")
    thoughts = running.get("/v1/swarm/personas/root-thinker")["thought_count"]
    assert value(running, "scheduler", "perpetua_thoughts_stored_total") == thoughts
    for name in ("queue_wait", "tick_to_stored"):
        assert value(running, "scheduler", f"perpetua_{name}_seconds_count") == thoughts
    eventually_sync(lambda: published(running), what="as many events as are published")
    assert value(running, "thinker", "perpetua_thoughts_total") == thoughts
    assert value(running, "scheduler", "perpetua_shards_owned") == 64
    assert value(running, "registry", "perpetua_personas") == 1
    running.post("/v1/cognition/start")


@pytest.mark.parametrize("service", MATRIX)
def test_each_service_is_live_and_ready_and_shows_its_boot(running: Swarm, service: str) -> None:
    assert fetched(running, service, "/livez") == (200, '{"ok":true}')
    status, body = fetched(running, service, "/readyz")
    found: dict[str, Any] = json.loads(body)
    assert (status, found["ok"]) == (200, True)
    assert found["boot"]["service"] == service
    assert found["boot"]["hosted"] == (64 if service == "scheduler" else 1)
    assert found["boot"]["versions"]["perpetua"]


def test_readiness_means_it_a_process_without_its_broker_is_not_ready(running: Swarm) -> None:
    metrics = running.metrics_ports(MATRIX)
    broker = running.pid("nats")
    assert running.process is not None

    def status(service: str) -> int:
        return fetch(f"http://127.0.0.1:{metrics[service]}/readyz").status

    running.process.send_signal(signal.SIGSTOP)  # the broker stays away for as long as that
    try:
        os.kill(broker, signal.SIGKILL)
        eventually_sync(lambda: status("thinker") == 503, 30, "not ready while the broker is away")
    finally:
        running.process.send_signal(signal.SIGCONT)
    eventually_sync(lambda: all(status(service) == 200 for service in MATRIX), 40, "ready again")


def test_logs_are_json_events_with_fields(running: Swarm) -> None:
    for service in MATRIX:
        lines = (running.data / "logs" / f"{service}-1.log").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        ready = next(record for record in records if record["event"] == "ready")
        assert {"timestamp", "level", "service", "instance"} <= ready.keys()
