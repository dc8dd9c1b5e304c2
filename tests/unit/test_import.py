"""Importing personas: whoever is there as described stays; whoever is not is created [2.3, 2.4]."""

from __future__ import annotations

from typing import Any

import pytest

from libs.contracts.personas import ImportedPersona, PolicyRequest, ReapPersonaRequest
from libs.contracts.refusals import Conflict, LimitReached, NotFound
from services.registry.importing import ensure
from tests.unit.make import NOW, Tree


def described(persona_id: str = "p", **more: Any) -> ImportedPersona:
    words = {"name": f"name of {persona_id}", "role": "observer", "charter": "Watch."} | more
    return ImportedPersona(persona_id=persona_id, **words)


def imported(tree: Tree, wanted: ImportedPersona) -> bool:
    """Import one; whether it was created."""
    return bool(tree.carry_out(ensure(tree.rules, tree.view, wanted)).changes)


@pytest.mark.fact("2.3")
def test_the_second_time_nothing_happens() -> None:
    tree = Tree()
    family = [
        described("p", swarm_id="s", policy=PolicyRequest(max_spawn_depth=2)),
        described("c", parent_id="p", policy=PolicyRequest(max_spawn_depth=9, share_memory=True)),
        described("g", parent_id="c"),
    ]
    assert [imported(tree, one) for one in family] == [True, True, True]
    before = dict(tree.roster.personas)
    assert [imported(tree, one) for one in family] == [False, False, False]
    assert tree.roster.personas == before
    assert before["g"].identity.swarm_id == "s"
    assert before["c"].policy.max_spawn_depth == 2, "bounded by its parent's"


@pytest.mark.fact("2.4")
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "other"}, "name"),
        ({"role": "other"}, "role"),
        ({"charter": "other"}, "charter"),
        ({"swarm_id": "other"}, "swarm_id"),
        ({"parent_id": None}, "parent_id"),
        ({"policy": PolicyRequest(idle_ttl_secs=1)}, "policy"),
        ({"name": "other", "role": "other"}, "name, role"),
    ],
)
def test_somebody_else_under_the_id_is_a_conflict_that_names_the_fields(
    change: dict[str, Any], named: str
) -> None:
    tree = Tree()
    tree.create("root", swarm_id="s")
    words: dict[str, Any] = {"swarm_id": "s", "parent_id": "root"}
    imported(tree, described(**words))
    with pytest.raises(Conflict, match=f"^Persona p is there already with another {named}$"):
        imported(tree, described(**(words | change)))


def test_who_was_reaped_is_not_created_again() -> None:
    tree = Tree()
    imported(tree, described())
    tree.carry_out(tree.rules.reap(tree.view, "p", ReapPersonaRequest(), NOW))
    with pytest.raises(Conflict, match="was reaped"):
        imported(tree, described())


@pytest.mark.fact("2.4")
def test_bounds_hold_for_who_is_new_and_not_for_who_is_there() -> None:
    tree = Tree()
    imported(tree, described("p", policy=PolicyRequest(max_branching_factor=1)))
    assert imported(tree, described("c", parent_id="p"))
    with pytest.raises(LimitReached):
        imported(tree, described("d", parent_id="p"))
    assert not imported(tree, described("c", parent_id="p"))
    with pytest.raises(NotFound):
        imported(tree, described("e", parent_id="nobody"))
