"""A view of the roster plus decisions of the same record that are not appended yet."""

from __future__ import annotations

from libs.contracts.journal import Spawned, Started, Stopped, Stopping
from libs.contracts.registry import LoopState, PersonaRecord
from libs.roster.state import Roster
from services.registry.rules import Decision


class Draft:
    """Lets several creations share one journal record: each sees those before it.

    Only creations may be added; every other decision has a record of its own.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._spawned: dict[str, PersonaRecord] = {}
        self._new_children: dict[str, int] = {}

    def persona(self, persona_id: str) -> PersonaRecord | None:
        """Return a persona's record."""
        return self._spawned.get(persona_id) or self._roster.personas.get(persona_id)

    def living_children_of(self, persona_id: str) -> int:
        """Return how many of its children are not reaped."""
        return self._roster.living_children.get(persona_id, 0) + self._new_children.get(persona_id, 0)

    def children_of(self, persona_id: str) -> list[str]:
        """Return all its children, sorted by id."""
        assert not self._spawned, "a reap has a record of its own"
        return self._roster.children.get(persona_id, [])

    def dependents_of(self, persona_id: str) -> list[str]:
        """Return those that wait for it, sorted by id, reaped ones too."""
        return sorted(self._roster.dependents.get(persona_id, ()))

    def is_empty(self) -> bool:
        """Whether there is no persona at all."""
        return not self._roster.personas and not self._spawned

    def loop(self) -> LoopState | None:
        """Return the loop's desired state, if one was ever set."""
        return self._roster.loop

    def most_runs(self) -> int:
        """Return how many runs there can have been at most: each began with a record of its own."""
        return self._roster.number

    def add(self, decision: Decision) -> None:
        """Make a decision visible to those that follow."""
        for change in decision.changes:
            assert not isinstance(change, Started | Stopping | Stopped)
            if isinstance(change, Spawned):
                identity = change.persona.identity
                self._spawned[identity.id] = change.persona
                if identity.parent_id is not None:
                    children = self._new_children.get(identity.parent_id, 0)
                    self._new_children[identity.parent_id] = children + 1
