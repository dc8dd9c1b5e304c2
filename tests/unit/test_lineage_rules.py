"""Whatever comes in whatever order, the tree keeps its rules [2.3–2.5, 2.8]."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from libs.contracts.journal import Reaping, Spawned
from libs.contracts.personas import PersonaStatus, PolicyRequest, ReapPersonaRequest
from libs.contracts.refusals import Refusal
from libs.contracts.registry import PersonaRecord
from libs.roster.state import Roster
from tests.unit.make import NOW, Tree, create

IDS = st.sampled_from([f"p{number}" for number in range(14)])
SMALL = st.none() | st.integers(0, 3)
POLICIES = st.none() | st.builds(PolicyRequest, max_spawn_depth=SMALL, max_branching_factor=SMALL)


class Lineage(RuleBasedStateMachine):
    """Creates and reaps at random; a plain model beside it says what must come out."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = Tree()
        self.ever: set[str] = set()

    @property
    def personas(self) -> dict[str, PersonaRecord]:
        return self.tree.roster.personas

    def living_children(self, persona_id: str) -> list[str]:
        return [i for i, r in self.personas.items() if r.identity.parent_id == persona_id and lives(r)]

    @initialize(its_policy=POLICIES)
    def root(self, its_policy: PolicyRequest | None) -> None:
        self.tree.create("p0", swarm_id="s", policy=its_policy)
        self.ever.add("p0")

    @rule(persona_id=IDS, parent_id=st.none() | IDS, its_policy=POLICIES)
    def create(self, persona_id: str, parent_id: str | None, its_policy: PolicyRequest | None) -> None:
        expected = self.reason_against(persona_id, parent_id)
        request = create(persona_id, parent_id, policy=its_policy)
        try:
            decision = self.tree.carry_out(self.tree.rules.create(self.tree.view, request))
        except Refusal as refusal:
            assert refusal.detail == expected
            return
        assert expected is None
        assert [type(change) for change in decision.changes] == [Spawned]
        self.ever.add(persona_id)

    def reason_against(self, persona_id: str, parent_id: str | None) -> str | None:
        """Why [2.4] refuses, the first reason first."""
        if parent_id is not None:
            if parent_id not in self.personas:
                return f"Parent persona not found: {parent_id}"
            parent = self.personas[parent_id]
            if not lives(parent):
                return f"Parent persona {parent_id} is reaped"
            if len(self.living_children(parent_id)) >= parent.policy.max_branching_factor:
                return f"Parent {parent_id} reached branching limit {parent.policy.max_branching_factor}"
            depth = parent.identity.depth + 1
            if depth > parent.policy.max_spawn_depth:
                return f"Spawn depth {depth} exceeds limit {parent.policy.max_spawn_depth}"
        return f"Persona id already exists: {persona_id}" if persona_id in self.ever else None

    @rule(persona_id=IDS, cascade=st.booleans())
    def reap(self, persona_id: str, cascade: bool) -> None:
        before = dict(self.personas)
        request = ReapPersonaRequest(cascade=cascade)
        try:
            decision = self.tree.carry_out(self.tree.rules.reap(self.tree.view, persona_id, request, NOW))
        except Refusal as refusal:
            assert persona_id not in self.ever
            assert refusal.detail == f"Persona not found: {persona_id}"
            return
        named = [i for change in decision.changes if isinstance(change, Reaping) for i in change.persona_ids]
        assert named == [i for i in self.below(persona_id, cascade) if lives(before[i])]
        for other, record in before.items():
            assert lives(self.personas[other]) == (lives(record) and other not in named)
            assert other in named or self.personas[other] is record, "not touched"

    def below(self, persona_id: str, cascade: bool) -> list[str]:
        """The target and, level by level, siblings by id, all below it."""
        order, level = [persona_id], [persona_id]
        while cascade and level:
            level = [
                child
                for name in level
                for child in sorted(i for i, r in self.personas.items() if r.identity.parent_id == name)
            ]
            order += level
        return order

    @invariant()
    def nobody_has_more_living_children_than_its_policy_allows(self) -> None:
        for persona_id, record in self.personas.items():
            assert len(self.living_children(persona_id)) <= record.policy.max_branching_factor

    @invariant()
    def every_child_is_one_deeper_than_its_parent_and_within_its_bounds(self) -> None:
        for record in self.personas.values():
            parent = self.personas.get(record.identity.parent_id or "")
            assert record.identity.depth == (parent.identity.depth + 1 if parent else 0)
            if parent is not None:
                assert record.identity.depth <= parent.policy.max_spawn_depth
                assert record.policy.max_spawn_depth <= parent.policy.max_spawn_depth
                assert (record.identity.swarm_id, record.policy.idle_ttl_secs) == (
                    parent.identity.swarm_id,
                    parent.policy.idle_ttl_secs,
                )

    @invariant()
    def nobody_vanishes_and_counts_are_right(self) -> None:
        roster = self.tree.roster
        assert set(self.personas) == self.ever == set(roster.ids)
        assert roster.ids == sorted(roster.ids)
        assert roster.active == sum(lives(record) for record in self.personas.values())
        for persona_id in self.ever:
            assert roster.living_children.get(persona_id, 0) == len(self.living_children(persona_id))

    @invariant()
    def folding_the_records_again_gives_the_same(self) -> None:
        assert same(folded(self.tree.log), self.tree.roster)


def lives(record: PersonaRecord) -> bool:
    return record.status is not PersonaStatus.REAPED


def folded(log: list[tuple[int, bytes]]) -> Roster:
    roster = Roster()
    for sequence, data in log:
        roster.fold(sequence, data)
    return roster


def same(one: Roster, other: Roster) -> bool:
    parts: list[Any] = [
        (r.personas, r.children, r.active, r.ids, r.number, r.loop, r.living_children) for r in (one, other)
    ]
    return bool(parts[0] == parts[1])


TestLineage = pytest.mark.fact("2.3")(
    pytest.mark.fact("2.4")(pytest.mark.fact("2.5")(pytest.mark.fact("2.8")(Lineage.TestCase)))
)
TestLineage.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
