"""Who may wait for whom: whatever is accepted, nobody waits for ever [A15]."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.limits import DEPENDENCIES
from libs.contracts.personas import DependenciesRequest, ReapPersonaRequest
from libs.contracts.refusals import Conflict, NotFound, Refusal
from services.registry.dependencies import set_dependencies
from services.registry.queries import dependencies
from services.registry.rules import Decision
from tests.unit.make import NOW, Tree

NAMES = [f"p{number}" for number in range(6)]
NAME = st.sampled_from(NAMES)
NAMED = st.none() | st.lists(NAME, max_size=4)


def tree_of(*names: str) -> Tree:
    tree = Tree()
    for name in names or NAMES:
        tree.create(name)
    return tree


def wait(tree: Tree, name: str, *waiting_for: str) -> Decision:
    return ask(tree, name, waiting_for=list(waiting_for))


def ask(tree: Tree, name: str, **request: Any) -> Decision:
    return tree.carry_out(set_dependencies(tree.view, name, DependenciesRequest(**request), NOW))


def reap(tree: Tree, name: str) -> None:
    tree.carry_out(tree.rules.reap(tree.view, name, ReapPersonaRequest(), NOW))


def edges(tree: Tree) -> dict[str, list[str]]:
    """Who waits for whom among the living."""
    return {
        name: [other for other in record.waiting_for if not tree.roster.is_reaped(other)]
        for name, record in tree.roster.personas.items()
        if not tree.roster.is_reaped(name)
    }


def has_an_order(waits: dict[str, list[str]]) -> bool:
    """Whether they can think one after the other, each after all it waits for."""
    left = dict(waits)
    while ready := [name for name, others in left.items() if not set(others) & left.keys()]:
        for name in ready:
            del left[name]
    return not left


@pytest.mark.fact("A15")
def test_a_persona_waits_for_those_and_nobody_else() -> None:
    tree = tree_of()
    wait(tree, "p2", "p1", "p0", "p1")
    assert tree.roster.personas["p2"].waiting_for == ["p0", "p1"]
    assert dependencies(tree.roster, "p0").notify == ["p2"]
    wait(tree, "p2", "p3")
    assert tree.roster.personas["p2"].waiting_for == ["p3"]
    assert dependencies(tree.roster, "p0").notify == []
    wait(tree, "p2")
    assert tree.roster.personas["p2"].waiting_for == []


@pytest.mark.fact("A15")
def test_who_is_notified_waits_for_it_and_nobody_else_does() -> None:
    tree = tree_of()
    wait(tree, "p1", "p3")
    wait(tree, "p2", "p0")
    ask(tree, "p0", notify=["p1"])
    assert (edges(tree)["p1"], edges(tree)["p2"]) == (["p0", "p3"], [])
    ask(tree, "p0", waiting_for=["p4"])
    assert edges(tree)["p1"] == ["p0", "p3"], "what is left out stays as it is"


@pytest.mark.fact("A15")
def test_asked_twice_it_changes_nothing_more() -> None:
    tree = tree_of()
    for request in ({"waiting_for": ["p1", "p0"]}, {"notify": ["p3"]}):
        assert ask(tree, "p2", **request).changes
        assert ask(tree, "p2", **request) == Decision()


@pytest.mark.fact("A15")
@pytest.mark.parametrize(
    ("chain", "last", "said"),
    [
        ([], ("p0", ["p0"]), "p0 → p0"),
        ([("p0", ["p1"])], ("p1", ["p0"]), "p1 → p0 → p1"),
        ([("p0", ["p1"]), ("p1", ["p2", "p3"])], ("p2", ["p4", "p0"]), "p2 → p0 → p1 → p2"),
    ],
)
def test_a_cycle_is_refused_and_named(
    chain: list[tuple[str, list[str]]], last: tuple[str, list[str]], said: str
) -> None:
    tree = tree_of()
    for name, waiting_for in chain:
        wait(tree, name, *waiting_for)
    before = edges(tree)
    with pytest.raises(Conflict, match=f"^Personas would wait for each other: {re.escape(said)}$"):
        wait(tree, last[0], *last[1])
    assert edges(tree) == before


@pytest.mark.fact("A15")
def test_a_cycle_of_what_is_set_together_is_refused() -> None:
    with pytest.raises(Conflict, match="p0 → p1 → p0"):
        ask(tree_of(), "p0", waiting_for=["p1"], notify=["p1"])
    with pytest.raises(Conflict, match="p0 → p0"):
        ask(tree_of(), "p0", notify=["p0"])


@pytest.mark.fact("A15")
def test_who_is_not_there_or_reaped_is_neither_waited_for_nor_waits() -> None:
    tree = tree_of()
    reap(tree, "p5")
    for request in ({"waiting_for": ["nobody"]}, {"notify": ["nobody"]}):
        with pytest.raises(NotFound, match=r"^Persona not found: nobody$"):
            ask(tree, "p0", **request)
    for request in ({"waiting_for": ["p5"]}, {"notify": ["p5"]}):
        with pytest.raises(Conflict, match="Persona p5 is reaped; it thinks no more"):
            ask(tree, "p0", **request)
    with pytest.raises(NotFound, match=r"^Persona not found: nobody$"):
        wait(tree, "nobody", "p0")
    with pytest.raises(Conflict, match="Persona p5 is reaped; nothing reaches it"):
        wait(tree, "p5", "p0")


def test_a_reaped_persona_closes_no_cycle() -> None:
    tree = tree_of()
    wait(tree, "p0", "p1")
    wait(tree, "p1", "p2")
    reap(tree, "p1")
    wait(tree, "p2", "p0")
    assert edges(tree)["p2"] == ["p0"]


def test_nobody_waits_for_more_than_so_many() -> None:
    tree = tree_of(*(f"n{number:03}" for number in range(DEPENDENCIES + 1)), "late")
    names = [f"n{number:03}" for number in range(DEPENDENCIES)]
    wait(tree, "late", *names)
    with pytest.raises(Conflict, match="Persona late would wait for more than 100 personas"):
        ask(tree, "n100", notify=["late"])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), NAME, NAMED, NAMED),
        st.tuples(st.just("reap"), NAME, st.none(), st.none()),
    ),
    max_size=20,
)


@pytest.mark.fact("A15")
@given(STEPS)
def test_whatever_is_accepted_there_is_never_a_cycle(steps: list[tuple[str, str, Any, Any]]) -> None:
    tree = tree_of()
    for kind, name, waiting_for, notify in steps:
        before = edges(tree)
        if kind == "reap":
            reap(tree, name)
            continue
        try:
            ask(tree, name, waiting_for=waiting_for, notify=notify)
        except Refusal as refusal:
            assert edges(tree) == before, "what is refused changes nothing"
            if "each other" in refusal.detail:
                check_cycle(tree, refusal.detail, name, waiting_for, notify)
            continue
        assert has_an_order(edges(tree))
        if waiting_for is not None:
            assert set(tree.roster.personas[name].waiting_for) == set(waiting_for)
        if notify is not None:
            assert dependencies(tree.roster, name).notify == sorted(set(notify))


def check_cycle(tree: Tree, detail: str, name: str, waiting_for: Any, notify: Any) -> None:
    """A cycle that is named is one of what was wanted."""
    wanted = edges(tree)
    if notify is not None:
        wanted = {
            who: [other for other in whom if other != name] + [name] * (who in notify)
            for who, whom in wanted.items()
        }
    if waiting_for is not None and (notify is None or name not in notify):
        wanted[name] = waiting_for
    path = detail.partition(": ")[2].split(" → ")
    assert path[0] == path[-1]
    for who, whom in pairwise(path):
        assert whom in wanted[who]
