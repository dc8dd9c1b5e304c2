"""Starting and stopping the loop, as the registry decides it [4.1, 4.2]."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from libs.contracts.control import StartCognitionRequest
from libs.contracts.journal import IntervalSet, Spawned, Started, Stopped, Stopping
from libs.contracts.refusals import LoopDisabled, NotFound
from libs.contracts.registry import LoopPhase, LoopState
from services.registry.rules import Decision
from tests.unit.make import NOW, Tree, create, rules


def start(tree: Tree, **request: Any) -> Decision:
    return tree.carry_out(tree.rules.start(tree.view, StartCognitionRequest(**request)))


def stop(tree: Tree, reason: str | None = None) -> Decision:
    return tree.carry_out(tree.rules.stop(tree.view, reason))


def loop(tree: Tree) -> LoopState:
    assert tree.roster.loop is not None
    return tree.roster.loop


@pytest.mark.fact("4.1")
def test_the_first_start_creates_the_seed_persona() -> None:
    tree = Tree()
    decision = start(tree)
    identity = tree.roster.personas["root-thinker"].identity
    assert (identity.id, identity.name, identity.role) == ("root-thinker", "root-thinker", "orchestrator")
    assert identity.swarm_id == "swarm-core"
    assert identity.charter == (
        "Continuously observe, reflect, test hypotheses, and compress useful insights."
    )
    assert decision.changes[1:] == [Started(1, 2000, NOW, interval_chosen=False)]
    assert [event.event_type for event in decision.events] == ["persona_spawned"]


@pytest.mark.fact("4.1")
def test_the_request_s_seed_goes_before_the_default_one() -> None:
    tree = Tree()
    start(tree, seed_persona=create("seed", swarm_id="mine"))
    assert list(tree.roster.personas) == ["seed"]
    assert tree.roster.personas["seed"].identity.swarm_id == "mine"


@pytest.mark.fact("4.1")
def test_no_seed_is_made_where_any_persona_exists_even_a_reaped_one() -> None:
    tree = Tree()
    tree.create("p")
    decision = start(tree, seed_persona=create("seed"))
    assert not any(isinstance(change, Spawned) for change in decision.changes)
    assert list(tree.roster.personas) == ["p"]


@pytest.mark.fact("4.1")
def test_a_refused_seed_changes_nothing() -> None:
    tree = Tree()
    with pytest.raises(NotFound, match="Parent persona not found: nobody"):
        start(tree, loop_interval_ms=500, seed_persona=create("seed", "nobody"))
    assert tree.roster.loop is None
    assert not tree.roster.personas


@pytest.mark.fact("4.1")
def test_a_disabled_loop_refuses_to_start_and_changes_nothing() -> None:
    tree = Tree(rules(enabled=False))
    with pytest.raises(LoopDisabled) as raised:
        start(tree)
    assert raised.value.detail == ("Perpetual cognition is disabled. Set CODETETHER_COGNITION_ENABLED=true.")
    assert raised.value.status == 400
    assert not tree.roster.personas


@pytest.mark.fact("1.1")
@pytest.mark.parametrize(
    ("wanted", "given"), [(0, 100), (10, 100), (25, 100), (99, 100), (100, 100), (101, 101)]
)
def test_the_interval_has_a_floor_of_100_ms(wanted: int, given: int) -> None:
    tree = Tree()
    start(tree, loop_interval_ms=wanted)
    assert loop(tree).interval_ms == given
    start(tree, loop_interval_ms=60_000)
    start(tree, loop_interval_ms=wanted)
    assert loop(tree).interval_ms == given, "also while it runs"


@pytest.mark.fact("4.1")
def test_starting_twice_is_the_same_as_once() -> None:
    tree = Tree()
    start(tree)
    before = loop(tree)
    assert start(tree) == Decision()
    assert loop(tree) == before
    start(tree, loop_interval_ms=2000)
    assert start(tree, loop_interval_ms=2000) == Decision()


@pytest.mark.fact("4.1")
def test_the_first_run_that_is_known_of_is_above_all_that_there_can_have_been() -> None:
    """Whatever the loop's record said that is lost: no more runs were begun than records were made."""
    tree = Tree()
    for number in range(3):
        tree.create(f"p{number}")
    assert start(tree).changes == [Started(4, 2000, NOW, interval_chosen=False)]
    stop(tree)
    tree.carry_out(tree.rules.stopped(tree.view, 4))
    start(tree)
    assert loop(tree).run == 5, "from there on it rises by one"


@pytest.mark.fact("4.1")
def test_a_start_while_it_runs_changes_the_interval_and_not_the_run() -> None:
    tree = Tree()
    start(tree)
    assert start(tree, loop_interval_ms=300).changes == [IntervalSet(300)]
    assert (loop(tree).run, loop(tree).interval_ms, loop(tree).phase) == (1, 300, LoopPhase.RUNNING)


@pytest.mark.fact("4.1")
def test_the_interval_is_remembered_over_a_stop() -> None:
    tree = Tree()
    start(tree, loop_interval_ms=300)
    stop(tree)
    tree.carry_out(tree.rules.stopped(tree.view, 1))
    assert loop(tree).interval_ms == 300
    start(tree)
    assert loop(tree).interval_ms == 300


def begin(tree: Tree, **settings: Any) -> Decision:
    """Carry out what a registry with these settings decides as it begins."""
    tree.rules = rules(**settings)
    return tree.carry_out(tree.rules.begin(tree.view))


@pytest.mark.fact("4.1")
def test_an_interval_that_nobody_chose_is_the_setting_s_at_each_begin() -> None:
    tree = Tree()
    begin(tree)
    assert begin(tree) == Decision(), "nothing is new"
    slower = IntervalSet(60_000, interval_chosen=False)
    assert begin(tree, default_interval_ms=60_000).changes == [slower]
    assert (loop(tree).run, loop(tree).phase) == (1, LoopPhase.RUNNING)
    stop(tree)
    tree.carry_out(tree.rules.stopped(tree.view, 1))
    begin(tree, default_interval_ms=5000)
    assert (loop(tree).interval_ms, loop(tree).phase) == (5000, LoopPhase.STOPPED)
    tree.rules = rules(default_interval_ms=4000)
    start(tree)
    assert (loop(tree).interval_ms, loop(tree).interval_chosen) == (4000, False)


@pytest.mark.fact("4.1")
@pytest.mark.parametrize("chosen", [300, 2000], ids=["another", "that of the setting"])
def test_an_interval_that_a_request_chose_outlives_every_setting(chosen: int) -> None:
    tree = Tree()
    begin(tree)
    start(tree, loop_interval_ms=chosen)
    assert begin(tree, default_interval_ms=60_000) == Decision()
    stop(tree)
    tree.carry_out(tree.rules.stopped(tree.view, 1))
    assert begin(tree, default_interval_ms=60_000) == Decision()
    start(tree)
    assert (loop(tree).interval_ms, loop(tree).interval_chosen) == (chosen, True)


@pytest.mark.fact("4.1")
def test_a_loop_of_an_older_version_keeps_its_interval() -> None:
    """It did not say who had chosen it."""
    tree = Tree()
    number = tree.roster.number + 1
    change = {"type": "started", "run": 1, "interval_ms": 700, "at": NOW}
    tree.roster.fold(1, msgspec.json.encode({"number": number, "owner": "old", "changes": [change]}))
    assert begin(tree, default_interval_ms=60_000) == Decision()
    assert loop(tree).interval_ms == 700
    stored = {"run": 1, "phase": "stopped", "interval_ms": 700}
    assert msgspec.convert(stored, LoopState).interval_chosen


@pytest.mark.fact("4.1")
@pytest.mark.parametrize(("auto_start", "enabled"), [(False, True), (True, False)])
def test_a_registry_starts_the_loop_only_where_it_may(auto_start: bool, enabled: bool) -> None:
    tree = Tree()
    assert begin(tree, auto_start=auto_start, enabled=enabled) == Decision()
    begin(tree)
    assert begin(tree, auto_start=False) == Decision(), "it runs, as is remembered"


@pytest.mark.fact("4.2")
@pytest.mark.fact("4.3")
def test_a_run_passes_through_running_stopping_stopped_to_the_next_run() -> None:
    tree = Tree()
    start(tree)
    assert stop(tree, "tea").changes == [Stopping(1, "tea")]
    assert (loop(tree).phase, loop(tree).stop_reason) == (LoopPhase.STOPPING, "tea")
    ended = tree.carry_out(tree.rules.stopped(tree.view, 1))
    assert ended.changes == [Stopped(1)]
    assert (loop(tree).phase, loop(tree).stop_reason) == (LoopPhase.STOPPED, None)
    assert loop(tree).started_at == NOW, "not cleared by stop"
    tree.rules = rules(now=lambda: NOW.replace(year=2027))
    start(tree)
    assert (loop(tree).run, loop(tree).phase) == (2, LoopPhase.RUNNING)
    assert loop(tree).started_at == NOW.replace(year=2027), "renewed by each real start"


def said(decision: Decision) -> list[dict[str, Any]]:
    return [json.loads(bytes(event.event)) for event in decision.events]


@pytest.mark.fact("4.2")
def test_the_end_of_a_run_announces_its_reason() -> None:
    tree = Tree()
    start(tree)
    assert said(stop(tree, "tea")) == [], "only once every shard is halted"
    (event,) = said(tree.carry_out(tree.rules.stopped(tree.view, 1)))
    assert (event["event_type"], event["persona_id"], event["swarm_id"]) == ("check_result", None, None)
    assert event["payload"] == {"stopped": True, "reason": "tea"}


@pytest.mark.fact("4.2")
def test_a_stop_without_a_reason_announces_nothing() -> None:
    tree = Tree()
    start(tree)
    stop(tree)
    assert said(tree.carry_out(tree.rules.stopped(tree.view, 1))) == []


@pytest.mark.fact("4.2")
@pytest.mark.parametrize("ever_started", [True, False])
def test_a_reason_is_announced_also_when_the_loop_does_not_run(ever_started: bool) -> None:
    tree = Tree()
    if ever_started:
        start(tree)
        stop(tree)
        tree.carry_out(tree.rules.stopped(tree.view, 1))
    before = tree.roster.loop
    decision = stop(tree, "again")
    assert decision.changes == []
    (event,) = said(decision)
    assert event["payload"] == {"stopped": True, "reason": "again"}
    assert tree.roster.loop == before


@pytest.mark.fact("4.2")
@pytest.mark.parametrize("run", [0, 2])
def test_only_the_run_that_is_stopping_can_be_ended(run: int) -> None:
    tree = Tree()
    start(tree)
    assert tree.rules.stopped(tree.view, 1) == Decision(), "it runs"
    stop(tree, "tea")
    assert tree.rules.stopped(tree.view, run) == Decision()
    tree.carry_out(tree.rules.stopped(tree.view, 1))
    assert tree.rules.stopped(tree.view, 1) == Decision(), "it is ended already"
