"""Creations that share a record see each other."""

from __future__ import annotations

import pytest

from libs.contracts.control import StartCognitionRequest
from libs.contracts.personas import PolicyRequest
from libs.contracts.refusals import Conflict, LimitReached
from services.registry.draft import Draft
from tests.unit.make import Tree, create


def drafted(tree: Tree, draft: Draft, persona_id: str, parent_id: str | None = None) -> None:
    draft.add(tree.rules.create(draft, create(persona_id, parent_id)))


def test_a_child_may_follow_its_parent_in_the_same_record() -> None:
    tree = Tree()
    draft = tree.view
    drafted(tree, draft, "p")
    drafted(tree, draft, "c", "p")
    record = draft.persona("c")
    assert record is not None
    assert record.identity.depth == 1
    assert tree.roster.personas == {}, "nothing is decided before it is appended"


@pytest.mark.fact("2.4")
def test_the_last_place_goes_to_one_of_those_that_share_a_record() -> None:
    tree = Tree()
    tree.create("p", policy=PolicyRequest(max_branching_factor=2))
    tree.create("a", "p")
    draft = tree.view
    drafted(tree, draft, "b", "p")
    with pytest.raises(LimitReached, match="reached branching limit 2"):
        drafted(tree, draft, "c", "p")
    assert draft.living_children_of("p") == 2


@pytest.mark.fact("2.4")
def test_an_id_is_given_to_one_of_those_that_share_a_record() -> None:
    tree = Tree()
    draft = tree.view
    drafted(tree, draft, "p")
    with pytest.raises(Conflict, match="Persona id already exists: p"):
        drafted(tree, draft, "p")


def test_a_refused_creation_leaves_the_draft_as_it_was() -> None:
    tree = Tree()
    tree.create("p", policy=PolicyRequest(max_branching_factor=0))
    draft = tree.view
    with pytest.raises(LimitReached):
        drafted(tree, draft, "c", "p")
    assert draft.persona("c") is None
    assert draft.living_children_of("p") == 0


@pytest.mark.fact("4.1")
def test_a_draft_with_a_persona_is_not_empty() -> None:
    tree = Tree()
    draft = tree.view
    assert draft.is_empty()
    drafted(tree, draft, "p")
    assert not draft.is_empty()


def test_only_creations_are_drafted() -> None:
    tree = Tree()
    with pytest.raises(AssertionError):
        tree.view.add(tree.rules.start(tree.view, StartCognitionRequest()))


def test_a_reap_is_not_decided_on_a_draft_with_newcomers() -> None:
    tree = Tree()
    draft = tree.view
    drafted(tree, draft, "p")
    with pytest.raises(AssertionError):
        draft.children_of("p")
