"""Deciding and announcing reaps [2.8]."""

from __future__ import annotations

import json
from typing import Any

import pytest

from libs.contracts.journal import Reaping
from libs.contracts.personas import PersonaStatus, PolicyRequest, ReapPersonaRequest
from libs.contracts.refusals import NotFound
from services.registry.rules import REAPED_AT_ONCE, announce
from tests.unit.make import NOW, Tree

WIDE = PolicyRequest(max_spawn_depth=9, max_branching_factor=1000)


def reap(tree: Tree, persona_id: str, **request: Any) -> list[str]:
    """Decide and carry out; return whom the record names."""
    decision = tree.rules.reap(tree.view, persona_id, ReapPersonaRequest(**request), NOW)
    tree.carry_out(decision)
    assert decision.events == [], "announced only once their shards are fenced"
    return [name for change in decision.changes if isinstance(change, Reaping) for name in change.persona_ids]


def family() -> Tree:
    """root: b (with b2, b1), a (with a1, and x below it)."""
    tree = Tree()
    tree.create("root", swarm_id="s", policy=WIDE)
    for persona_id, parent_id in [
        ("b", "root"),
        ("b2", "b"),
        ("a", "root"),
        ("b1", "b"),
        ("a1", "a"),
        ("x", "a1"),
    ]:
        tree.create(persona_id, parent_id)
    return tree


def announced(tree: Tree, *persona_ids: str) -> list[dict[str, Any]]:
    events = tree.carry_out(announce(tree.view, list(persona_ids))).events
    assert all(event.swarm_id == "s" for event in events)
    return [json.loads(bytes(event.event)) for event in events]


@pytest.mark.fact("2.8")
def test_an_unknown_persona_cannot_be_reaped() -> None:
    tree = Tree()
    with pytest.raises(NotFound) as raised:
        tree.rules.reap(tree.view, "nobody", ReapPersonaRequest(cascade=True), NOW)
    assert raised.value.detail == "Persona not found: nobody"


@pytest.mark.fact("2.8")
@pytest.mark.parametrize("cascade", [None, False])
def test_without_cascade_the_children_stay_active(cascade: bool | None) -> None:
    tree = family()
    assert reap(tree, "root", cascade=cascade) == ["root"]
    living = [name for name, record in tree.roster.personas.items() if record.status is PersonaStatus.ACTIVE]
    assert sorted(living) == ["a", "a1", "b", "b1", "b2", "x"]


@pytest.mark.fact("2.8")
def test_a_cascade_goes_breadth_first_the_target_first_siblings_by_id() -> None:
    assert reap(family(), "root", cascade=True) == ["root", "a", "b", "a1", "b1", "b2", "x"]


@pytest.mark.fact("2.8")
def test_a_cascade_takes_what_is_below_the_target_only() -> None:
    assert reap(family(), "a", cascade=True) == ["a", "a1", "x"]


@pytest.mark.fact("2.8")
def test_a_cascade_passes_through_those_already_reaped() -> None:
    tree = family()
    reap(tree, "a1")
    reap(tree, "b")
    assert reap(tree, "root", cascade=True) == ["root", "a", "b1", "b2", "x"]


@pytest.mark.fact("2.8")
def test_a_cascade_from_a_reaped_target_takes_the_living_below_it() -> None:
    tree = family()
    reap(tree, "a")
    assert reap(tree, "a", cascade=True) == ["a1", "x"]


@pytest.mark.fact("2.8")
def test_reaping_a_reaped_persona_alone_changes_nothing() -> None:
    tree = family()
    reap(tree, "x")
    before = tree.roster.personas["x"]
    assert reap(tree, "x") == []
    assert tree.roster.personas["x"] is before


@pytest.mark.fact("2.2")
@pytest.mark.fact("2.8")
def test_reaping_sets_updated_at_to_the_one_shared_time() -> None:
    tree = family()
    later = NOW.replace(year=2027)
    decision = tree.rules.reap(tree.view, "a", ReapPersonaRequest(cascade=True), later)
    tree.carry_out(decision)
    assert {tree.roster.personas[name].updated_at for name in ("a", "a1", "x")} == {later}
    assert tree.roster.personas["b"].updated_at == NOW
    announced(tree, "a", "a1", "x")
    assert {tree.roster.personas[name].updated_at for name in ("a", "a1", "x")} == {later}


@pytest.mark.fact("2.8")
def test_the_announcement_has_reason_cascade_swarm_and_one_shared_timestamp() -> None:
    tree = family()
    reap(tree, "a", cascade=True, reason="  done ")
    events = announced(tree, "a", "a1", "x")
    assert [event["persona_id"] for event in events] == ["a", "a1", "x"]
    assert {event["timestamp"] for event in events} == {"2026-01-02T03:04:05.678901Z"}
    assert len({event["id"] for event in events}) == 3
    for event in events:
        assert event["event_type"] == "persona_reaped"
        assert event["swarm_id"] == "s"
        assert event["payload"] == {"reason": "  done ", "cascade": True}


@pytest.mark.fact("2.8")
@pytest.mark.parametrize(("reason", "said"), [(None, "manual_reap"), ("", ""), ("why", "why")])
def test_the_reason_defaults_to_manual_reap(reason: str | None, said: str) -> None:
    tree = family()
    reap(tree, "x", reason=reason)
    (event,) = announced(tree, "x")
    assert event["payload"] == {"reason": said, "cascade": False}


@pytest.mark.fact("2.8")
def test_a_persona_is_announced_once() -> None:
    tree = family()
    reap(tree, "x")
    assert len(announced(tree, "x", "a", "nobody")) == 1
    assert announced(tree, "x") == []
    reap(tree, "root", cascade=True)
    assert "x" not in {event["persona_id"] for event in announced(tree, *tree.roster.ids)}


@pytest.mark.fact("2.9")
def test_what_is_reaped_and_not_announced_is_known() -> None:
    tree = family()
    reap(tree, "a1", cascade=True)
    assert {record.identity.id for record in tree.roster.unannounced()} == {"a1", "x"}
    announced(tree, "x")
    assert {record.identity.id for record in tree.roster.unannounced()} == {"a1"}


@pytest.mark.fact("2.8")
def test_a_large_tree_is_reaped_in_records_of_bounded_size_in_one_order() -> None:
    tree = Tree()
    tree.create("root", policy=WIDE)
    names = [f"c{number:04}" for number in range(999)]
    for name in names:
        tree.create(name, "root")
    first = reap(tree, "root", cascade=True)
    second = reap(tree, "root", cascade=True)
    assert len(first) == len(second) == REAPED_AT_ONCE
    assert first + second == ["root", *names]
    assert reap(tree, "root", cascade=True) == []
