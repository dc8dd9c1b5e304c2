"""Facts 3.x about what a thought is, over HTTP, on a lone fresh persona."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest

from tests.support.endpoint import Endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

PHASES = ["observe", "reflect", "test", "compress"]
TYPES = ["thought_generated", "hypothesis_raised", "check_requested", "snapshot_compressed"]
KEYS = {
    "phase", "thought_count", "persona", "context_event_count", "thinking", "source", "model",
    "finish_reason", "usage", "latency_ms", "error",
}  # fmt: skip


def thoughts(swarm: Swarm, persona: str = "root-thinker") -> list[dict[str, Any]]:
    """The persona's thoughts in the stream, in order."""
    return [e for e in swarm.events() if e["persona_id"] == persona and "thinking" in e["payload"]]


def first_thoughts(swarm: Swarm, count: int) -> list[dict[str, Any]]:
    found = eventually_sync(lambda: len(t := thoughts(swarm)) >= count and t, 30)
    assert isinstance(found, list)
    return found[:count]


@pytest.mark.fact("3.1")
@pytest.mark.fact("3.5")
@pytest.mark.fact("3.6")
@pytest.mark.fact("3.11")
@pytest.mark.fact("5.4")
def test_a_lone_fresh_persona_thinks_in_phases_with_the_context_it_has(lone: Swarm) -> None:
    found = first_thoughts(lone, 12)
    assert [e["payload"]["thought_count"] for e in found] == list(range(1, 13))
    assert [e["payload"]["phase"] for e in found] == PHASES * 3
    assert [e["event_type"] for e in found] == TYPES * 3
    assert [e["payload"]["context_event_count"] for e in found] == [1, 2, 4, 6, 7, 8, 8, 8, 8, 8, 8, 8]
    for event in found:
        payload = event["payload"]
        assert set(payload) == KEYS
        assert payload["persona"] == {
            "id": "root-thinker", "name": "root-thinker", "role": "orchestrator",
        }  # fmt: skip
        assert payload["thinking"] == (
            f"phase={payload['phase']} persona=root-thinker role=orchestrator "
            f"context_events={payload['context_event_count']} thought_count={payload['thought_count']} "
            "synthesized_fallback=1"
        )
        assert (payload["source"], payload["model"], payload["usage"]) == ("fallback", None, None)
        assert "CODETETHER_COGNITION_THINKER_BASE_URL" in payload["error"]
        assert isinstance(payload["latency_ms"], int)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", event["timestamp"])
        assert UUID(event["id"])
        assert event["swarm_id"] == "swarm-core"


@pytest.mark.fact("3.7")
@pytest.mark.fact("3.8")
@pytest.mark.fact("3.9")
@pytest.mark.fact("3.14")
def test_eight_thoughts_make_eleven_events_a_proposal_and_two_snapshots(lone: Swarm) -> None:
    first_thoughts(lone, 9)
    events = [e for e in lone.events() if e["persona_id"] == "root-thinker"]
    ninth = next(i for i, e in enumerate(events) if e["payload"].get("thought_count") == 9)
    kinds = [e["event_type"] for e in events[:ninth]]
    assert kinds == [
        "persona_spawned", "thought_generated", "hypothesis_raised", "proposal_created",
        "check_requested", "check_result", "snapshot_compressed", "thought_generated",
        "hypothesis_raised", "check_requested", "check_result", "snapshot_compressed",
    ]  # fmt: skip
    assert len(kinds) - 1 == 11
    check = events[5]["payload"]
    assert set(check) == {"phase", "thought_count", "result_excerpt", "source", "model"}
    assert (check["phase"], check["thought_count"]) == ("test", 3)
    assert check["result_excerpt"] == events[4]["payload"]["thinking"][:280]
    proposal = events[3]["payload"]
    assert set(proposal) == {"proposal_id", "title", "rationale_excerpt", "source", "model"}
    assert proposal["title"] == events[2]["payload"]["thinking"][:72] + "..."
    assert all(set(e) - {"sequence"} == {
        "id", "event_type", "persona_id", "swarm_id", "timestamp", "payload",
    } for e in events)  # fmt: skip
    held = eventually_sync(lambda: len(s := lone.get("/v1/cognition/snapshots")["snapshots"]) >= 2 and s, 30)
    assert isinstance(held, list)
    snapshots = [s["snapshot"] for s in held[:2]]
    assert [s["hot_event_count"] for s in snapshots] == [6, 8]
    for snapshot, thought in zip(snapshots, (events[6], events[11]), strict=True):
        assert snapshot["persona_scope"] == ["root-thinker"]
        assert snapshot["swarm_id"] == "swarm-core"
        assert snapshot["summary"] == thought["payload"]["thinking"]
        assert (snapshot["warm_fact_count"], snapshot["cold_snapshot_count"]) == (1, 1)
        assert snapshot["metadata"] == {
            "phase": "compress", "role": "orchestrator", "source": "fallback",
            "model": "fallback", "completion_tokens": 0,
        }  # fmt: skip


def thinking_with(model: Endpoint, **settings: str) -> Any:
    return swarm(
        settings={
            "LOOP_INTERVAL_MS": "100",
            "MAX_EVENTS": "20000",
            "THINKER_BASE_URL": model.base_url,
            "THINKER_MODEL": "small-one",
        }
        | settings
    )


@pytest.mark.fact("3.6")
@pytest.mark.fact("3.9")
@pytest.mark.fact("3.10")
@pytest.mark.fact("3.12")
def test_a_models_answer_is_the_thought_with_its_usage(model: Endpoint) -> None:
    model.reply = lambda _: "  One. Two! Three? " + "x" * 3000
    with thinking_with(model) as running:
        found = first_thoughts(running, 8)
        snapshot = running.get("/v1/cognition/snapshots")["snapshots"][0]["snapshot"]
    for event in found:
        payload = event["payload"]
        assert payload["thinking"] == ("  One. Two! Three? " + "x" * 3000)[:2000].strip() + "..."
        assert (payload["source"], payload["model"]) == ("model", "small-one")
        assert (payload["finish_reason"], payload["error"]) == ("stop", None)
        assert payload["usage"] == {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    assert snapshot["metadata"]["model"] == "small-one"
    assert snapshot["metadata"]["completion_tokens"] == 20
    assert snapshot["warm_fact_count"] == 6
    assert len(snapshot["summary"]) == 1503
    prompts = [request["messages"] for request in model.requests]
    assert len({messages[0]["content"] for messages in prompts}) == 1
    assert [m["role"] for m in prompts[0]] == ["system", "user"]
    for phase, messages in zip(PHASES, prompts, strict=False):
        assert f"phase: {phase}" in messages[1]["content"]
        assert "Continuously observe, reflect" in messages[1]["content"]
    assert "persona_spawned" in prompts[0][1]["content"]


@pytest.mark.fact("3.11")
@pytest.mark.parametrize(
    ("reply", "error"), [(" \n", "empty completion"), (500, "HTTP 500"), (404, "HTTP 404")]
)
def test_a_blank_or_failed_answer_is_the_declared_fallback(
    model: Endpoint, reply: str | int, error: str
) -> None:
    model.reply = lambda _: reply
    with thinking_with(model) as running:
        payload = first_thoughts(running, 1)[0]["payload"]
    assert payload["source"] == "fallback"
    assert payload["thinking"].endswith("synthesized_fallback=1")
    assert error in payload["error"]
    assert (payload["model"], payload["usage"], payload["finish_reason"]) == (None, None, None)


@pytest.mark.fact("3.11")
def test_without_a_thinker_by_choice_the_error_is_null() -> None:
    with swarm(settings={"THINKER_ENABLED": "false", "LOOP_INTERVAL_MS": "100"}) as running:
        assert first_thoughts(running, 1)[0]["payload"]["error"] is None


@pytest.mark.fact("1.1")
@pytest.mark.fact("3.12")
def test_the_tiny_model_thinks_through_the_real_path() -> None:
    with swarm("--model", "tiny", settings={"LOOP_INTERVAL_MS": "100", "THINKER_MAX_TOKENS": "8"}) as running:
        payload = first_thoughts(running, 1)[0]["payload"]
        assert payload["source"] == "model", payload
        assert payload["model"].startswith("tiny")
        assert 1 <= payload["usage"]["completion_tokens"] <= 8
        assert any("random weights" in line for line in running.output)
