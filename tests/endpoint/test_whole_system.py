"""A dead endpoint and a slow one, as the user of `perpetua up` meets them: real processes, a real broker."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from math import log2
from time import perf_counter
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.endpoint import measure
from services.thinker.backends.breaker import FAILURES, PAUSE_MOST_S
from tests.support.endpoint import endpoint
from tests.support.eventually import eventually_sync
from tests.support.http import fetch
from tests.support.swarm import Swarm, swarm


def thinker(up: Swarm) -> dict[str, Any]:
    """The thinker's row; `ps` waits for a broker and its answers no longer than a person would."""

    def heard() -> dict[str, Any] | None:
        return next((row for row in up.ps() if row["service"] == "thinker" and row["summary"]), None)

    return eventually_sync(heard, what="a thinker that is heard of") or {}


def circuit(up: Swarm) -> dict[str, Any]:
    """What the status says of the thinker's circuit, checked where it is open."""
    circuits = up.get("/v1/cognition/status")["circuits"]
    assert len(circuits) == 1
    found = circuits[0]
    assert found["thinker"] == thinker(up)["instance"]
    if found["state"] == "open":
        assert "HTTP 503" in found["because"]
        assert found["endpoint"] in str(thinker(up)["summary"]["troubles"])
        left = datetime.fromisoformat(found["until"]) - datetime.now(UTC)
        assert left < timedelta(seconds=PAUSE_MOST_S)
    return dict(found)


def fetched(up: Swarm, path: str) -> str:
    return fetch(f"http://127.0.0.1:{thinker(up)['metrics_port']}{path}").text


def metric(up: Swarm, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(fetched(up, "/metrics"))
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.mark.fact("3.11")
@pytest.mark.timeout(300)
def test_a_dead_endpoint_is_said_once_costs_nothing_and_is_used_again_when_it_is_back() -> None:
    with endpoint(lambda _: 503) as model:
        settings = {"THINKER_BASE_URL": model.base_url, "LOOP_INTERVAL_MS": "100"}
        began = perf_counter()
        with swarm("--quiet", settings=settings) as up:
            up.until_output("endpoint_given_up")
            trouble = f"the endpoint {model.base_url}/chat/completions is left alone: HTTP 503"
            eventually_sync(lambda: trouble in str(thinker(up)["summary"]["troubles"]))
            shown = up.cli("ps").stdout
            assert trouble in " ".join(shown.split()), shown
            eventually_sync(lambda: circuit(up)["state"] == "open")
            status = " ".join(up.cli("status").stdout.split())
            assert re.search(r"endpoint of thinker\S* circuit (open|half open), http", status), status
            assert "HTTP 503" in status
            ready = json.loads(fetched(up, "/readyz"))
            assert ready["ok"] is True, "it does what it can: declared fallbacks"
            assert trouble in ready["boot"]["troubles"][0]

            def fell_back() -> bool:
                thoughts = [event["payload"] for event in up.events() if "thinking" in event["payload"]]
                declared = [t for t in thoughts if t["error"] and trouble in t["error"]]
                return len(declared) > 20 and all(t["source"] == "fallback" for t in thoughts)

            eventually_sync(fell_back, 60, "declared fallbacks that name the cause")
            probes = len(model.requests) - FAILURES
            assert probes <= log2(1 + perf_counter() - began), "pauses of 1, 2, 4, 8 seconds"
            assert metric(up, "perpetua_endpoint_circuit", perpetua_endpoint_circuit="closed") == 0
            assert metric(up, "perpetua_endpoint_circuit_opened_total") >= 1
            assert metric(up, "perpetua_endpoint_requests_total", outcome="server_error") >= FAILURES
            assert metric(up, "perpetua_endpoint_requests_total", outcome="not_asked") > 20
            model.reply = lambda _: "Well again."
            up.until_output("endpoint_back", within=2.5 * PAUSE_MOST_S)
            assert sum("endpoint_given_up" in line for line in up.output) == 1
            assert not any("thoughts_fail" in line and "left alone" in line for line in up.output)
            eventually_sync(lambda: thinker(up)["summary"]["troubles"] == [])
            eventually_sync(lambda: circuit(up)["state"] == "closed")
            closed = circuit(up)
            assert (closed["because"], closed["until"]) == (None, None)
            assert "circuit closed" in " ".join(up.cli("status").stdout.split())
            eventually_sync(lambda: "Well again." in str(up.events()[-3:]))
            assert metric(up, "perpetua_tokens_total", kind="completion") > 0


@pytest.mark.timeout(400)
def test_an_endpoint_is_asked_side_by_side_through_the_whole_system() -> None:
    """The figure itself is `just bench-endpoint`'s; a busy machine reaches this much once in three tries."""
    for _ in range(3):
        found = measure(personas=128, latency_ms=50.0, interval_ms=100, seconds=4.0)
        assert found["thoughts without a model"] == 0
        if found["ratio"] >= 20:
            break
    assert found["ratio"] >= 20, found
