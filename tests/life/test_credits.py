"""Credits as admission, counted at the model [A16]."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest

from tests.life.conftest import SETTINGS
from tests.life.support import (
    charter,
    early_in_a_minute,
    is_at_rest,
    make,
    payloads,
    send,
    state,
    thoughts,
)
from tests.support.endpoint import Endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

TOKENS_A_CALL = 120
LIMIT = 1000


@pytest.mark.fact("A16")
def test_a_tree_spends_no_more_than_its_root_has_and_says_that_it_waits(up: Swarm, model: Endpoint) -> None:
    early_in_a_minute()
    make(up, "miser", token_credits_per_minute=LIMIT)
    for name in ("heir-1", "heir-2"):
        body = {"persona_id": name, "name": name, "role": "critic", "charter": charter(name)}
        up.post("/v1/swarm/personas/miser/spawn", body)
    names = ("miser", "heir-1", "heir-2")

    def all_paused() -> bool:
        """Whether nobody has credits left; who rests gets something to think about."""
        states = {name: state(up, name) for name in names}
        for name in names:
            if is_at_rest(states[name]) and not states[name]["life"]["paused"]:
                send(up, name, f"Is it calm after {states[name]['thought_count']} thoughts?")
        return all(one["life"]["paused"] for one in states.values())

    eventually_sync(all_paused, 30, "all paused")
    for name in names:
        eventually_sync(partial(payloads, up, "budget_paused", name), 30, f"{name} paused")
    time.sleep(1)
    calls = sum(model.calls_about(charter(name)) for name in names)
    assert calls >= 4
    assert calls * TOKENS_A_CALL <= LIMIT + TOKENS_A_CALL, "no more than one thought's error of estimate"
    for name in names:
        shown = state(up, name)
        assert shown["status"] == "active"
        assert shown["life"]["paused"]["account"] in ("miser", name)
        assert shown["life"]["paused"]["credit"] == "tokens"
        assert len(payloads(up, "budget_paused", name)) == 1, "said once"
    rows = {row["key"]: row for row in _spend(up) if row["key"] in names}
    assert sum(row["tokens"] for row in rows.values()) == calls * TOKENS_A_CALL


def _spend(up: Swarm) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = up.get("/v1/swarm/spend?by=persona&limit=1000")["rows"]
    return found


@pytest.mark.long
@pytest.mark.fact("A16")
def test_who_waited_for_credits_thinks_on_when_the_minute_is_over(up: Swarm) -> None:
    early_in_a_minute()
    make(up, "pauper", token_credits_per_minute=400)
    for number in range(4):
        send(up, "pauper", f"Is it calm, for the {number}th time?")
        time.sleep(0.7)
    eventually_sync(lambda: payloads(up, "budget_paused", "pauper"), 30, "paused")
    before = thoughts(up, "pauper")
    (resumed,) = eventually_sync(lambda: payloads(up, "budget_resumed", "pauper")[:1], 70, "resumed") or []
    paused = payloads(up, "budget_paused", "pauper")[0]
    assert resumed["account"] == "pauper"
    assert paused["reason"].startswith("a thought is expected to cost")
    assert resumed["paused_at"] < paused["resumes_at"], "it was of this pause"
    eventually_sync(lambda: thoughts(up, "pauper") > before, 30, "it thinks on")


@pytest.mark.fact("A16")
@pytest.mark.fact("A6")
def test_a_tree_without_a_model_spends_nothing_and_never_waits_for_credits() -> None:
    """A thought of which nothing is known is expected to cost a second. A minute has ten; 24 are thought."""
    settings = SETTINGS | {"THINKER_ENABLED": "false", "CPU_CREDITS_PER_MINUTE": "10000"}
    names = ["trunk", *(f"branch-{number}" for number in range(5))]
    with swarm("--quiet", settings=settings) as bare:
        early_in_a_minute()
        make(bare, "trunk", max_branching_factor=5)
        for name in names[1:]:
            body = {"persona_id": name, "name": name, "role": "critic", "charter": charter(name)}
            bare.post("/v1/swarm/personas/trunk/spawn", body)
        eventually_sync(lambda: all(thoughts(bare, name) == 4 for name in names), 30, "a cycle of each")
        assert [payloads(bare, "budget_paused", name) for name in names] == [[]] * len(names)
        assert _spend(bare) == []
