"""From an answer to events in final bytes [3.6–3.8, 3.11, 3.15]."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.cognition.compose import Answer, compose, failed
from libs.contracts.journal import ThoughtEntry
from libs.contracts.thoughts import Usage
from tests.unit.make import NOW, item, line

USAGE = Usage(prompt_tokens=7, completion_tokens=3, total_tokens=10)
PAYLOAD_KEYS = {
    "phase",
    "thought_count",
    "persona",
    "context_event_count",
    "thinking",
    "source",
    "model",
    "finish_reason",
    "usage",
    "latency_ms",
    "error",
}


def answer(text: str | None = "A thought. And one more.", **more: Any) -> Answer:
    return Answer(text=text, model="m-1", finish_reason="stop", usage=USAGE, latency_ms=42, **more)


def think(count: int, its_answer: Answer | None = None, context: int = 0) -> ThoughtEntry:
    return compose(item("p", count, [line(n) for n in range(context)]), 3, its_answer or answer(), NOW)


def events(entry: ThoughtEntry) -> list[dict[str, Any]]:
    return [json.loads(bytes(event)) for _, event in entry.events]


@pytest.mark.fact("3.6")
@pytest.mark.fact("3.14")
def test_a_thought_by_a_model_has_every_key() -> None:
    (event,) = events(think(1, context=2))
    assert set(event) == {"id", "event_type", "persona_id", "swarm_id", "timestamp", "payload"}
    assert (event["event_type"], event["persona_id"], event["swarm_id"]) == (
        "thought_generated",
        "p",
        "swarm-core",
    )
    assert event["payload"] == {
        "phase": "observe",
        "thought_count": 1,
        "persona": {"id": "p", "name": "name of p", "role": "observer"},
        "context_event_count": 2,
        "thinking": "A thought. And one more.",
        "source": "model",
        "model": "m-1",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        "latency_ms": 42,
        "error": None,
        "novelty": 1.0,
    }


@pytest.mark.fact("3.6")
@given(st.integers(1, 40), st.none() | st.text(max_size=50), st.none() | st.text(max_size=50))
def test_no_key_of_the_payload_is_ever_missing(count: int, text: str | None, error: str | None) -> None:
    entry = compose(item("p", count), 1, Answer(text=text, error=error), NOW)
    payload = events(entry)[0]["payload"]
    assert set(payload) - {"novelty", "repeats"} == PAYLOAD_KEYS
    assert ("novelty" in payload) == (payload["source"] == "model")
    assert payload["thinking"]
    assert isinstance(payload["latency_ms"], int)
    assert payload["source"] == ("model" if text and text.strip() else "fallback")


@pytest.mark.fact("3.6")
def test_what_the_backend_did_not_say_is_null() -> None:
    payload = events(compose(item(), 1, Answer(text="Yes."), NOW))[0]["payload"]
    assert (payload["source"], payload["model"], payload["finish_reason"], payload["usage"]) == (
        "model",
        None,
        None,
        None,
    )
    partial = events(compose(item(), 1, Answer(text="Yes.", usage=Usage(total_tokens=4)), NOW))[0]["payload"]
    assert partial["usage"] == {"prompt_tokens": None, "completion_tokens": None, "total_tokens": 4}


@pytest.mark.fact("3.7")
def test_a_test_phase_also_emits_its_result() -> None:
    requested, result = events(think(3, answer("x" * 300)))
    assert (requested["event_type"], result["event_type"]) == ("check_requested", "check_result")
    assert result["payload"] == {
        "phase": "test",
        "thought_count": 3,
        "result_excerpt": "x" * 280 + "...",
        "source": "model",
        "model": "m-1",
    }
    assert (result["persona_id"], result["swarm_id"]) == ("p", "swarm-core")


@pytest.mark.fact("3.8")
def test_the_second_of_eight_thoughts_also_proposes() -> None:
    text = "Do  it now\n" + "y" * 2000
    raised, proposed = events(think(10, answer(text)))
    assert (raised["event_type"], proposed["event_type"]) == ("hypothesis_raised", "proposal_created")
    payload = proposed["payload"]
    assert set(payload) == {"proposal_id", "title", "rationale_excerpt", "source", "model"}
    assert payload["title"] == "Do it now"
    assert payload["rationale_excerpt"] == text[:220] + "..."
    assert (payload["source"], payload["model"]) == ("model", "m-1")
    assert payload["proposal_id"] not in (raised["id"], proposed["id"])


@pytest.mark.fact("3.8")
def test_a_persona_emits_11_events_per_8_thoughts() -> None:
    for begin in (1, 9, 17):
        kinds = [kind for count in range(begin, begin + 8) for kind, _ in think(count).events]
        assert kinds == [
            "thought_generated",
            "hypothesis_raised",
            "proposal_created",
            "check_requested",
            "check_result",
            "snapshot_compressed",
            "thought_generated",
            "hypothesis_raised",
            "check_requested",
            "check_result",
            "snapshot_compressed",
        ]


@pytest.mark.fact("3.10")
def test_a_thought_is_trimmed_to_2000_characters() -> None:
    assert events(think(1, answer(" " + "x" * 1999)))[0]["payload"]["thinking"] == "x" * 1999
    assert events(think(1, answer("x" * 2001)))[0]["payload"]["thinking"] == "x" * 2000 + "..."


FALLBACK = (
    "phase=observe persona=root-thinker role=orchestrator context_events=1 thought_count=1 "
    "synthesized_fallback=1"
)


@pytest.mark.fact("3.11")
def test_the_fallback_is_the_reference_s_text_to_the_letter() -> None:
    root = msgspec.structs.replace(item("root-thinker", 1, [line()]), role="orchestrator")
    payload = events(compose(root, 1, failed("the model is away", 1200), NOW))[0]["payload"]
    assert payload["thinking"] == FALLBACK
    assert (payload["source"], payload["model"], payload["usage"], payload["finish_reason"]) == (
        "fallback",
        None,
        None,
        None,
    )
    assert (payload["error"], payload["latency_ms"]) == ("the model is away", 1200)


@pytest.mark.fact("3.11")
@pytest.mark.parametrize("count", [1, 2, 3, 4, 10])
def test_a_fallback_has_all_the_events_of_a_thought(count: int) -> None:
    by_model, by_fallback = think(count), think(count, failed("no"))
    assert [kind for kind, _ in by_model.events] == [kind for kind, _ in by_fallback.events]
    for event in events(by_fallback):
        assert (event["payload"]["source"], event["payload"]["model"]) == ("fallback", None)


@pytest.mark.fact("3.11")
@given(st.text(" \n\t\r\u00a0\u2003", max_size=30))
@example("")
@example(" " * 5000)
@example("\n" * 2001)
def test_a_blank_answer_is_an_empty_completion(blank: str) -> None:
    payload = events(think(1, answer(blank)))[0]["payload"]
    assert (payload["source"], payload["error"]) == ("fallback", "empty completion")
    assert (payload["model"], payload["usage"], payload["finish_reason"]) == (None, None, None)
    assert "synthesized_fallback=1" in payload["thinking"]
    assert payload["latency_ms"] == 42


@pytest.mark.fact("3.11")
def test_a_fallback_that_was_chosen_has_no_error() -> None:
    assert events(think(1, failed(None)))[0]["payload"]["error"] is None


def test_an_error_is_trimmed_and_a_model_s_thought_has_none() -> None:
    assert len(events(think(1, failed("e" * 5000)))[0]["payload"]["error"]) == 1003
    assert events(think(1, answer("Yes.", error="ignored")))[0]["payload"]["error"] is None


@pytest.mark.fact("3.15")
@pytest.mark.fact("5.4")
def test_each_event_has_an_id_of_its_own_and_the_thought_s_time() -> None:
    made = [event for count in range(1, 9) for event in events(think(count))]
    assert len({event["id"] for event in made}) == len(made)
    assert {event["timestamp"] for event in made} == {"2026-01-02T03:04:05.678901Z"}


@pytest.mark.fact("5.4")
@given(st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_timestamps_are_rfc_3339_in_utc_with_a_z(at: datetime) -> None:
    stamp = events(compose(item(), 1, answer(), at))[0]["timestamp"]
    assert stamp.endswith("Z")
    assert datetime.fromisoformat(stamp) == at


def test_the_entry_says_whose_thought_it_is_and_of_which_run() -> None:
    entry = think(6)
    assert (entry.persona_id, entry.thought_count, entry.run, entry.swarm_id) == ("p", 6, 3, "swarm-core")
    assert entry.tick_at == NOW + timedelta(seconds=6)
