"""Posts to a swarm, and what it remembers, through the whole system [A5, A18]."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import pytest

from tests.life.conftest import reply, user_prompt
from tests.life.support import (
    charter,
    early_in_a_minute,
    make,
    make_rested,
    payloads,
    rested,
    send,
    thoughts,
)
from tests.support.endpoint import Endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm


@pytest.mark.fact("A5")
def test_of_a_post_no_more_than_two_answer_and_each_decides(up: Swarm) -> None:
    names = [f"post-{number}" for number in range(6)]
    make_rested(up, *names, swarm_id="posted-to")
    post = up.post("/v1/swarm/swarms/posted-to/inbox", {"content": "Who knows why?", "priority": 0.6})
    assert post["personas"] == 6

    def decided() -> bool:
        found = [payloads(up, "inbox_handled", name) for name in names]
        return all(any(one["outcome"] == "handled" for p in own for one in p["items"]) for own in found)

    eventually_sync(decided, 30, "everybody has decided")
    said = [payload for name in names for payload in payloads(up, "inbox_handled", name)]
    assert all(payload["will_respond"] for payload in said), "all would"
    assert len([payload for payload in said if payload["response"]]) == 2


@pytest.mark.fact("A18")
def test_what_personas_share_is_rolled_up_and_told_and_nothing_else_is(up: Swarm, model: Endpoint) -> None:
    model.reply = lambda request: (
        f"{reply(request)} PRIVATE-7" if charter("keeps") in json.dumps(request) else reply(request)
    )
    make_rested(up, "keeps", swarm_id="sharing", share_memory=False)
    make(up, "shares-1", swarm_id="sharing", share_memory=True)
    make(up, "shares-2", swarm_id="sharing", share_memory=True)
    eventually_sync(lambda: thoughts(up, "keeps") >= 8, 30, "what others share wakes it")

    def rolled_up() -> list[dict[str, Any]]:
        found = up.get("/v1/cognition/snapshots?scope=swarm&limit=1000")["snapshots"]
        return [one["snapshot"] for one in found if one["snapshot"]["swarm_id"] == "sharing"]

    roll_ups = eventually_sync(rolled_up, 30, "a roll-up") or []
    assert {name for one in roll_ups for name in one["persona_scope"]} <= {"shares-1", "shares-2"}
    assert all(one["cold_snapshot_count"] >= 2 for one in roll_ups)

    def is_told() -> bool:
        own = [request for request in list(model.requests) if charter("keeps") in json.dumps(request)]
        return any("shares-1:" in user_prompt(request) for request in own)

    eventually_sync(is_told, 30, "it is told what others share")
    time.sleep(1)
    others = [request for request in list(model.requests) if charter("keeps") not in json.dumps(request)]
    assert not any("PRIVATE-7" in json.dumps(request) for request in others), "its own stays with it"


@pytest.mark.fact("A16", "A18")
def test_what_a_roll_up_costs_is_shown_and_without_credits_no_model_is_asked(
    up: Swarm, model: Endpoint
) -> None:
    """A thought costs 120 tokens, and a summary is expected to cost more than eight of them leave."""
    for name in ("rich", "rich-too"):
        make(up, name, swarm_id="rich-ones", share_memory=True)
    costs = "/v1/swarm/spend?swarm_id=rich-ones&by="

    def row(by: str, key: str) -> dict[str, Any] | None:
        return next((one for one in up.get(costs + by)["rows"] if one["key"] == key), None)

    cost = eventually_sync(lambda: row("role", "(roll-up)"), 40, "what a roll-up cost")
    assert cost is not None and cost["tokens"] == 120 * cost["thoughts"] > 0
    assert row("persona", "(roll-up) rich-ones") is not None
    shown = up.cli("spend", "--by", "role", "--swarm", "rich-ones").stdout
    assert "(roll-up)" in shown
    early_in_a_minute()
    make(up, "poor", swarm_id="poor-ones", share_memory=True, token_credits_per_minute=1100)
    rested(up, "poor")
    send(up, "poor")

    def of_the_swarm() -> list[dict[str, Any]]:
        found = [one for one in up.events() if one["swarm_id"] == "poor-ones" and one["persona_id"] is None]
        return [one["payload"] for one in found]

    (rolled_up,) = eventually_sync(of_the_swarm, 40, "a roll-up") or []
    assert (rolled_up["source"], rolled_up["usage"]) == ("fallback", None)
    assert "no credits: a summary is expected to cost" in rolled_up["error"]
    assert "poor has committed 960 of the 1100 of this minute" in rolled_up["error"]


@pytest.mark.fact("A11")
@pytest.mark.timeout(240)
def test_a_swarm_that_shares_comes_to_rest_and_says_what_only_echoes(up: Swarm, model: Endpoint) -> None:
    """Each answer is another one: nothing that is said repeats anything."""
    model.reply = lambda request: f"{reply(request)} {secrets.token_hex(40)}"
    names = ["echo-1", "echo-2", "echo-3"]
    for name in names:
        make(up, name, swarm_id="echoing", share_memory=True)

    def said() -> int:
        return sum(thoughts(up, name) for name in names)

    def at_rest() -> bool:
        before = said()
        time.sleep(5)
        return before == said() > 4 * len(names)

    eventually_sync(at_rest, 120, "the swarm at rest")
    shared = [payload for name in names for payload in payloads(up, "snapshot_compressed", name)]
    assert [payload.get("echo") for payload in shared if payload["thought_count"] == 4] == [None] * 3
    assert any(payload.get("echo") for payload in shared)
