"""Facts 2.8 to 2.10, over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.conformance.test_personas import WHO, create, public
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm


def tree(swarm: Swarm) -> str:
    """A tree r → (b → (b1), a → (a2, a1)); returns its prefix."""
    p = f"{uuid4()}-"
    create(swarm, p + "r", swarm_id="wood")
    for parent, child in (("r", "b"), ("r", "a"), ("a", "a2"), ("a", "a1"), ("b", "b1")):
        swarm.post(f"/v1/swarm/personas/{p}{parent}/spawn", {"persona_id": p + child, **WHO})
    return p


def reaped_events(swarm: Swarm, prefix: str) -> list[dict[str, Any]]:
    return [
        e
        for e in swarm.events()
        if e["event_type"] == "persona_reaped" and (e["persona_id"] or "").startswith(prefix)
    ]


@pytest.mark.fact("2.8")
def test_without_cascade_the_children_stay_active(quiet: Swarm) -> None:
    p = tree(quiet)
    assert quiet.post(f"/v1/swarm/personas/{p}r/reap") == {"reaped_ids": [f"{p}r"], "count": 1}
    assert quiet.get(f"/v1/swarm/personas/{p}a")["status"] == "active"
    state = quiet.get(f"/v1/swarm/personas/{p}r")
    assert state["status"] == "reaped"
    assert state["updated_at"] > state["identity"]["created_at"]


@pytest.mark.fact("2.8")
def test_a_cascade_goes_breadth_first_with_siblings_by_id_through_the_reaped(quiet: Swarm) -> None:
    p = tree(quiet)
    quiet.post(f"/v1/swarm/personas/{p}a/reap", {"reason": "first"})
    answer = quiet.post(f"/v1/swarm/personas/{p}r/reap", {"cascade": True, "reason": "clear"})
    assert answer["reaped_ids"] == [p + name for name in ("r", "b", "a1", "a2", "b1")]
    assert answer["count"] == 5
    events = eventually_sync(lambda: len(found := reaped_events(quiet, p)) == 6 and found)
    assert isinstance(events, list)
    assert [e["persona_id"].removeprefix(p) for e in events] == ["a", "r", "b", "a1", "a2", "b1"]
    assert events[0]["payload"] == {"reason": "first", "cascade": False}
    assert all(e["payload"] == {"reason": "clear", "cascade": True} for e in events[1:])
    assert len({e["timestamp"] for e in events[1:]}) == 1
    assert {e["swarm_id"] for e in events} == {"wood"}


@pytest.mark.fact("2.8")
def test_a_persona_already_reaped_is_not_counted_touched_or_announced_again(quiet: Swarm) -> None:
    p = tree(quiet)
    quiet.post(f"/v1/swarm/personas/{p}a1/reap")
    before = quiet.get(f"/v1/swarm/personas/{p}a1")
    assert quiet.post(f"/v1/swarm/personas/{p}a1/reap") == {"reaped_ids": [], "count": 0}
    assert quiet.get(f"/v1/swarm/personas/{p}a1") == before
    eventually_sync(lambda: reaped_events(quiet, p), 30)
    public(quiet)
    (only,) = reaped_events(quiet, p)
    assert only["payload"] == {"reason": "manual_reap", "cascade": False}


@pytest.mark.fact("2.8")
def test_an_unknown_persona_cannot_be_reaped(quiet: Swarm) -> None:
    answer = quiet.http("POST", "/v1/swarm/personas/nobody/reap", None)
    assert (answer.status, answer.json["detail"]) == (404, "Persona not found: nobody")


@pytest.mark.fact("2.10")
def test_lineage_is_sorted_and_holds_the_reaped(quiet: Swarm) -> None:
    p = tree(quiet)
    quiet.post(f"/v1/swarm/personas/{p}a/reap")
    graph = quiet.get("/v1/swarm/lineage")
    ids = [node["persona_id"] for node in graph["nodes"]]
    assert ids == sorted(ids)
    assert graph["roots"] == sorted(n["persona_id"] for n in graph["nodes"] if n["parent_id"] is None)
    assert graph["total_edges"] == sum(1 for n in graph["nodes"] if n["parent_id"] is not None)
    mine = {n["persona_id"].removeprefix(p): n for n in graph["nodes"] if n["persona_id"].startswith(p)}
    assert mine["r"]["children"] == [f"{p}a", f"{p}b"]
    assert mine["a"] == {
        "persona_id": f"{p}a",
        "parent_id": f"{p}r",
        "children": [f"{p}a1", f"{p}a2"],
        "depth": 1,
        "status": "reaped",
    }


@pytest.mark.fact("2.9")
def test_no_thought_appears_after_persona_reaped_even_one_in_flight(lone: Swarm) -> None:
    for n in range(20):
        create(lone, f"p{n}", swarm_id="s")
    eventually_sync(lambda: lone.get("/v1/swarm/personas/p19")["thought_count"] > 3, 30)
    for n in range(20):
        lone.post(f"/v1/swarm/personas/p{n}/reap")
    eventually_sync(lambda: len(reaped_events(lone, "p")) >= 20, 30)
    last = lone.get("/v1/cognition/events?limit=1")["last_sequence"]
    eventually_sync(lambda: lone.get("/v1/cognition/events?limit=1")["last_sequence"] > last + 5)
    events = lone.events()
    for n in range(20):
        mine = [e["event_type"] for e in events if e["persona_id"] == f"p{n}"]
        assert mine.count("persona_reaped") == 1
        assert mine[-1] == "persona_reaped"
