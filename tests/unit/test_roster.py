"""The roster: a fold of the registry's records that may begin in its buckets."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.control import StartCognitionRequest
from libs.contracts.journal import Change, IntervalSet, RegistryRecord, Stopped, Stopping
from libs.contracts.limits import SHARDS
from libs.contracts.personas import DependenciesRequest, ReapPersonaRequest
from libs.contracts.refusals import Refusal
from libs.contracts.registry import LoopPhase, StoredLoop, StoredPersona
from libs.contracts.tokens import shard_of
from libs.journal.tail import JournalHole
from libs.roster.state import Roster
from services.registry.dependencies import set_dependencies
from services.registry.rules import Decision, announce
from tests.unit.make import NOW, Tree, create

NAMES = st.sampled_from([f"p{number}" for number in range(6)])

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), NAMES, st.none() | NAMES),
        st.tuples(st.just("reap"), NAMES, st.booleans()),
        st.tuples(st.just("announce"), st.none(), st.none()),
        st.tuples(st.just("wait"), NAMES, st.lists(NAMES, max_size=3)),
        st.tuples(st.just("notify"), NAMES, st.lists(NAMES, max_size=3)),
        st.tuples(st.just("start"), st.none(), st.sampled_from([None, 500, 700])),
        st.tuples(st.just("stop"), st.none(), st.none()),
        st.tuples(st.just("stopped"), st.none(), st.none()),
    ),
    min_size=1,
    max_size=25,
)


def decide(tree: Tree, kind: str, name: Any, more: Any) -> Decision:
    rules, view, loop = tree.rules, tree.view, tree.roster.loop
    match kind:
        case "create":
            return rules.create(view, create(name, more))
        case "reap":
            return rules.reap(view, name, ReapPersonaRequest(cascade=more), NOW)
        case "wait":
            return set_dependencies(view, name, DependenciesRequest(waiting_for=more), NOW)
        case "notify":
            return set_dependencies(view, name, DependenciesRequest(notify=more), NOW)
        case "announce":
            return announce(view, tree.roster.ids)
        case "start":
            return rules.start(view, StartCognitionRequest(loop_interval_ms=more))
        case "stop":
            return rules.stop(view, "why")
    return rules.stopped(view, loop.run if loop else 0)


def history(steps: list[tuple[str, Any, Any]]) -> tuple[Tree, list[dict[str, StoredPersona]], list[Any]]:
    """Carry out steps; return also what the buckets could have held after each record."""
    tree = Tree()
    personas: list[dict[str, StoredPersona]] = [{}]
    loops: list[StoredLoop | None] = [None]
    for step in steps:
        before = tree.sequence
        try:
            tree.carry_out(decide(tree, *step))
        except Refusal:
            continue
        if tree.sequence > before:
            personas.append(stored(tree.roster))
            loops.append(stored_loop(tree.roster))
    return tree, personas, loops


def stored(roster: Roster) -> dict[str, StoredPersona]:
    return {
        name: StoredPersona(sequence=roster.changed_at(name), record=record)
        for name, record in roster.personas.items()
    }


def stored_loop(roster: Roster) -> StoredLoop | None:
    return StoredLoop(sequence=roster.loop_changed_at, loop=roster.loop) if roster.loop else None


def shown(roster: Roster) -> Any:
    living = {name: n for name, n in roster.living_children.items() if n}
    dependents = {name: names for name, names in roster.dependents.items() if names}
    return (
        roster.personas,
        roster.children,
        living,
        dependents,
        roster.active,
        roster.ids,
        roster.loop,
        roster.number,
    )


@given(STEPS, st.data())
def test_buckets_and_the_rest_of_the_journal_give_the_same_roster(
    steps: list[tuple[str, Any, Any]], data: st.DataObject
) -> None:
    """The journal is trimmed up to somewhere; each key of the buckets is as old as that, or newer."""
    tree, personas, loops = history(steps)
    trimmed = data.draw(st.integers(0, max(tree.sequence - 1, 0)), "trimmed")
    copy = Roster()
    for name in sorted(tree.roster.personas):
        at = data.draw(st.integers(trimmed, tree.sequence), f"the bucket's {name} is of")
        if name in personas[at]:
            copy.restore(personas[at][name])
    held = loops[data.draw(st.integers(trimmed, tree.sequence), "the bucket's loop is of")]
    if held is not None:
        copy.restore_loop(held)
    for sequence, record in tree.log[trimmed:]:
        copy.fold(sequence, record)
    assert shown(copy) == shown(tree.roster)


@given(STEPS)
def test_restoring_what_is_folded_already_changes_nothing(steps: list[tuple[str, Any, Any]]) -> None:
    tree, personas, loops = history(steps)
    before = shown(tree.roster)
    for values, held in zip(personas, loops, strict=True):
        for value in values.values():
            tree.roster.restore(value)
        if held is not None:
            tree.roster.restore_loop(held)
    assert shown(tree.roster) == before


def numbered(number: int) -> bytes:
    return msgspec.json.encode(RegistryRecord(number=number, owner="o"))


@pytest.mark.parametrize("number", [1, 2, 4, 9])
def test_a_hole_or_a_repeat_in_the_record_numbers_is_an_error(number: int) -> None:
    roster = Roster()
    roster.fold(10, numbered(1))
    roster.fold(11, numbered(2))
    with pytest.raises(JournalHole) as raised:
        roster.fold(12, numbered(number))
    assert str(raised.value) == f"j.registry: record 3 is missing, {number} follows; start anew"


def test_the_first_record_may_have_any_number() -> None:
    """The records before it are trimmed."""
    roster = Roster()
    roster.fold(1000, numbered(77))
    roster.fold(1001, numbered(78))
    assert roster.number == 78


def test_every_persona_stands_in_its_shard_once() -> None:
    tree = Tree()
    for number in range(200):
        tree.create(f"p{number}")
    tree.carry_out(tree.rules.reap(tree.view, "p7", ReapPersonaRequest(), NOW))
    for shard in range(SHARDS):
        assert sorted(tree.roster.in_shard(shard)) == [i for i in tree.roster.ids if shard_of(i) == shard]


@pytest.mark.fact("2.9")
def test_a_persona_that_is_reaped_or_unknown_is_to_think_no_more() -> None:
    tree = Tree()
    tree.create("p")
    assert not tree.roster.is_reaped("p")
    assert tree.roster.is_reaped("nobody")
    tree.carry_out(tree.rules.reap(tree.view, "p", ReapPersonaRequest(), NOW))
    assert tree.roster.is_reaped("p")


def test_spawns_are_known_by_the_sequence_at_which_they_came() -> None:
    tree = Tree()
    tree.create("a")
    tree.create("b")
    assert tree.roster.born == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("change", "phase"),
    [(Stopping(7, "why"), LoopPhase.STOPPING), (Stopped(7), LoopPhase.STOPPED), (IntervalSet(500), None)],
)
def test_of_a_loop_that_nobody_knows_a_change_says_what_it_says(
    change: Change, phase: LoopPhase | None
) -> None:
    roster = Roster()
    roster.fold(10, msgspec.json.encode(RegistryRecord(number=4, owner="o", changes=[change])))
    assert (roster.loop.run, roster.loop.phase) == (7, phase) if roster.loop is not None else phase is None
