"""Messages through the whole system: sent over HTTP, decided by an endpoint, seen in the stream, replayed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from libs.contracts.limits import ITEM_ATTEMPTS
from tests.support.endpoint import Endpoint, endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm
from tests.unit.messages import decision

SETTINGS = {"LOOP_INTERVAL_MS": "200", "MAX_EVENTS": "5000", "SHARE_MEMORY": "true"}


def reply(request: dict[str, Any]) -> str:
    """A model that answers one message, skips another, and cannot decide about a third."""
    user = request["messages"][-1]["content"]
    if "messages to the persona" not in user:
        return f"Thought {len(user)} of nothing in particular."
    if "IMPOSSIBLE" in user:
        return "I cannot decide."
    return decision(True, "It is calm.") if "calm?" in user else decision(False, "")


@pytest.fixture(scope="module")
def model() -> Iterator[Endpoint]:
    with endpoint(reply) as running:
        yield running


@pytest.fixture(scope="module")
def up(model: Endpoint) -> Iterator[Swarm]:
    own = {"CAPTURE": "all", "ROLL_UP_INTERVAL_MS": "300", "NOVELTY_THRESHOLD": "0.95"}
    with swarm(settings=SETTINGS | {"THINKER_BASE_URL": model.base_url}, own=own) as running:
        yield running


def send(up: Swarm, content: str, **more: Any) -> str:
    sent = up.post("/v1/swarm/personas/root-thinker/inbox", {"content": content, **more})
    return str(sent["item_id"])


def of_type(up: Swarm, event_type: str, item_id: str) -> list[dict[str, Any]]:
    """Payloads that concern an item."""
    return [
        event["payload"]
        for event in up.events()
        if event["event_type"] == event_type and item_id in json.dumps(event["payload"])
    ]


def handled(up: Swarm, item_id: str) -> dict[str, Any]:
    def find() -> dict[str, Any] | None:
        found = [
            payload
            for payload in of_type(up, "inbox_handled", item_id)
            if any(one["id"] == item_id and one["outcome"] == "handled" for one in payload["items"])
        ]
        return found[0] if found else None

    return eventually_sync(find, 90, f"{item_id} handled") or {}


@pytest.mark.fact("A5")
@pytest.mark.fact("H15")
def test_a_message_is_answered_by_the_thought_that_takes_it_up(up: Swarm, model: Endpoint) -> None:
    item_id = send(up, "Is it calm?", source_id="room 1")
    payload = handled(up, item_id)
    assert (payload["will_respond"], payload["response"], payload["error"]) == (True, "It is calm.", None)
    thought = next(
        event["payload"]
        for event in up.events()
        if event["payload"].get("thought_count") == payload["thought_count"]
        and "thinking" in event["payload"]
    )
    assert thought["thinking"] == "It is calm."
    assert item_id in thought["inbox_item_ids"]
    assert thought["context_allocation"]["inbox"] == "satisfied"
    assert 0 <= thought["novelty"] <= 1
    assert any("room 1" in request["messages"][-1]["content"] for request in model.requests)


@pytest.mark.fact("H15")
def test_a_message_may_be_left_without_an_answer(up: Swarm) -> None:
    payload = handled(up, send(up, "Of no concern."))
    assert (payload["will_respond"], payload["response"]) == (False, None)


@pytest.mark.fact("A5")
def test_a_message_that_no_decision_is_made_about_is_set_aside_and_readable(up: Swarm) -> None:
    item_id = send(up, "IMPOSSIBLE to say.")
    (dropped,) = eventually_sync(lambda: of_type(up, "inbox_dropped", item_id), 90, "set aside") or []
    assert (dropped["content"], dropped["reason"]) == ("IMPOSSIBLE to say.", "failed")
    assert dropped["attempts"] == ITEM_ATTEMPTS
    assert dropped["error"].startswith("no decision: ")
    failures = of_type(up, "inbox_handled", item_id)
    assert [one["outcome"] for payload in failures for one in payload["items"] if one["id"] == item_id] == [
        "failed", "failed", "aside",
    ]  # fmt: skip


def test_a_thought_about_a_message_is_replayed_with_it(up: Swarm) -> None:
    payload = handled(up, send(up, "Is it calm? Once more."))
    done = up.cli("replay", "root-thinker", str(payload["thought_count"]), "--temperature", "0", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["captured"]["prompt"]["prefill"] == '{"will_respond":'
    assert json.loads(found["replayed"]["answer"]["text"]) == {
        "will_respond": True,
        "response": "It is calm.",
    }


@pytest.mark.fact("A19")
def test_a_thought_repeats_below_the_threshold_that_is_set(up: Swarm) -> None:
    def found() -> list[dict[str, Any]]:
        payloads = [event["payload"] for event in up.events()]
        return [payload for payload in payloads if 0.3 <= payload.get("novelty", 0.0) < 0.95]

    some = eventually_sync(found, 90, "thoughts that are new by the default, and repeat by this threshold")
    assert all(payload["repeats"] for payload in some or [])
    others = [event["payload"] for event in up.events() if event["payload"].get("novelty", 0.0) >= 0.95]
    assert others and not any("repeats" in payload for payload in others)
