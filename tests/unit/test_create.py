"""Creating and spawning personas [2.1–2.7]."""

from __future__ import annotations

import json

import pytest

from libs.contracts.journal import Spawned
from libs.contracts.personas import PersonaStatus, PolicyRequest, ReapPersonaRequest
from libs.contracts.refusals import Conflict, LimitReached, NotFound, Refusal
from libs.contracts.registry import PersonaRecord
from services.registry.rules import Decision
from tests.unit.make import NOW, POLICY, Tree, create, policy


def born(decision: Decision) -> PersonaRecord:
    (change,) = decision.changes
    assert isinstance(change, Spawned)
    return change.persona


def reap(tree: Tree, persona_id: str) -> None:
    tree.carry_out(tree.rules.reap(tree.view, persona_id, ReapPersonaRequest(), NOW))


@pytest.mark.fact("2.2")
@pytest.mark.fact("2.3")
def test_a_root_is_active_has_depth_0_and_the_default_policy() -> None:
    record = born(Tree().create("p"))
    assert (record.identity.depth, record.identity.parent_id, record.identity.swarm_id) == (0, None, None)
    assert record.policy == POLICY
    assert record.status is PersonaStatus.ACTIVE
    assert record.identity.created_at == record.updated_at == NOW


@pytest.mark.fact("2.3")
def test_a_child_is_one_deeper_and_inherits_swarm_and_policy() -> None:
    tree = Tree()
    tree.create("p", swarm_id="s", policy=PolicyRequest(max_spawn_depth=3, share_memory=True))
    child = born(tree.create("c", "p"))
    assert (child.identity.depth, child.identity.parent_id, child.identity.swarm_id) == (1, "p", "s")
    assert child.policy == policy(max_spawn_depth=3, share_memory=True)
    assert born(tree.create("g", "c")).identity.depth == 2


@pytest.mark.fact("2.3")
def test_a_request_s_swarm_and_policy_go_before_the_parent_s() -> None:
    tree = Tree()
    tree.create("p", swarm_id="s", policy=PolicyRequest(max_branching_factor=9, idle_ttl_secs=5))
    child = born(tree.create("c", "p", swarm_id="t", policy=PolicyRequest(idle_ttl_secs=7)))
    assert child.identity.swarm_id == "t"
    assert child.policy == policy(max_branching_factor=9, idle_ttl_secs=7)


@pytest.mark.fact("2.1")
def test_a_root_s_partial_policy_is_completed_from_the_default() -> None:
    record = born(Tree().create("p", policy=PolicyRequest(token_credits_per_minute=1)))
    assert record.policy == policy(token_credits_per_minute=1)


@pytest.mark.fact("2.5")
@pytest.mark.parametrize(
    ("parent", "wanted", "given"), [(2, 9, 2), (2, 2, 2), (2, 1, 1), (2, None, 2), (1, 4, 1)]
)
def test_a_child_s_depth_limit_is_clamped_to_its_parent_s(
    parent: int, wanted: int | None, given: int
) -> None:
    tree = Tree()
    tree.create("p", policy=PolicyRequest(max_spawn_depth=parent))
    child = born(tree.create("c", "p", policy=PolicyRequest(max_spawn_depth=wanted)))
    assert child.policy.max_spawn_depth == given


@pytest.mark.fact("2.5")
def test_a_root_s_depth_limit_is_not_clamped() -> None:
    assert born(Tree().create("p", policy=PolicyRequest(max_spawn_depth=9))).policy.max_spawn_depth == 9


@pytest.mark.fact("2.6")
def test_an_id_that_is_not_given_is_made() -> None:
    assert born(Tree().create(None)).identity.id == "id-1"


@pytest.mark.fact("2.7")
def test_creating_announces_the_persona() -> None:
    tree = Tree()
    tree.create("p", swarm_id="s")
    (event,) = tree.create("c", "p").events
    assert (event.swarm_id, event.persona_id, event.event_type) == ("s", "c", "persona_spawned")
    said = json.loads(bytes(event.event))
    assert said.pop("id")
    assert said == {
        "event_type": "persona_spawned",
        "persona_id": "c",
        "swarm_id": "s",
        "timestamp": "2026-01-02T03:04:05.678901Z",
        "payload": {"name": "name of c", "role": "observer", "depth": 1},
    }


def refusal(tree: Tree, persona_id: str, parent_id: str | None = None) -> tuple[type[Refusal], str]:
    with pytest.raises(Refusal) as raised:
        tree.rules.create(tree.view, create(persona_id, parent_id))
    return type(raised.value), raised.value.detail


@pytest.mark.fact("2.4")
def test_refusals_come_in_their_order_with_their_texts() -> None:
    """A request that is wrong in every way is refused for the first reason; each cure shows the next."""
    tree = Tree()
    tree.create("taken")
    assert refusal(tree, "taken", "p") == (NotFound, "Parent persona not found: p")

    tree.create("p", policy=PolicyRequest(max_spawn_depth=0, max_branching_factor=0))
    reap(tree, "p")
    assert refusal(tree, "taken", "p") == (Conflict, "Parent persona p is reaped")

    tree.create("q", policy=PolicyRequest(max_spawn_depth=0, max_branching_factor=0))
    assert refusal(tree, "taken", "q") == (LimitReached, "Parent q reached branching limit 0")

    tree.create("r", policy=PolicyRequest(max_spawn_depth=0))
    assert refusal(tree, "taken", "r") == (LimitReached, "Spawn depth 1 exceeds limit 0")

    tree.create("s")
    assert refusal(tree, "taken", "s") == (Conflict, "Persona id already exists: taken")


@pytest.mark.fact("2.4")
@pytest.mark.fact("5.2")
def test_refusals_have_their_statuses() -> None:
    assert (NotFound.status, Conflict.status, LimitReached.status) == (404, 409, 400)


@pytest.mark.fact("2.4")
def test_depth_limit_2_allows_depth_2_and_refuses_3() -> None:
    tree = Tree()
    tree.create("0", policy=PolicyRequest(max_spawn_depth=2))
    tree.create("1", "0")
    tree.create("2", "1")
    assert refusal(tree, "3", "2") == (LimitReached, "Spawn depth 3 exceeds limit 2")


@pytest.mark.fact("2.4")
def test_depth_limit_0_refuses_any_child_and_a_root_never_fails_it() -> None:
    tree = Tree()
    tree.create("p", policy=PolicyRequest(max_spawn_depth=0))
    assert refusal(tree, "c", "p")[1] == "Spawn depth 1 exceeds limit 0"


@pytest.mark.fact("2.4")
def test_reaping_a_child_frees_its_place() -> None:
    tree = Tree()
    tree.create("p", policy=PolicyRequest(max_branching_factor=2))
    tree.create("a", "p")
    tree.create("b", "p")
    assert refusal(tree, "c", "p") == (LimitReached, "Parent p reached branching limit 2")
    reap(tree, "a")
    tree.create("c", "p")
    assert refusal(tree, "d", "p") == (LimitReached, "Parent p reached branching limit 2")


@pytest.mark.fact("2.4")
def test_only_direct_children_take_a_place() -> None:
    tree = Tree()
    tree.create("p", policy=PolicyRequest(max_branching_factor=1))
    tree.create("c", "p", policy=PolicyRequest(max_branching_factor=5))
    tree.create("g1", "c")
    tree.create("g2", "c")
    reap(tree, "c")
    tree.create("d", "p")


@pytest.mark.fact("2.4")
def test_the_id_of_a_reaped_persona_is_never_used_again() -> None:
    tree = Tree()
    tree.create("p")
    reap(tree, "p")
    assert refusal(tree, "p") == (Conflict, "Persona id already exists: p")


@pytest.mark.fact("2.4")
def test_a_reaped_parent_refuses_children() -> None:
    tree = Tree()
    tree.create("p")
    reap(tree, "p")
    assert refusal(tree, "c", "p") == (Conflict, "Parent persona p is reaped")


@pytest.mark.fact("2.4")
def test_texts_of_a_refusal_hold_ids_as_they_are() -> None:
    assert refusal(Tree(), "c", " ü/%2F\u3000 ")[1] == "Parent persona not found:  ü/%2F\u3000 "
