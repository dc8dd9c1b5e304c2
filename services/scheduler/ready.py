"""Who thinks next among personas that are due, where not all can at once [A12–A14]. Pure.

Times are seconds of a monotonic clock that the caller reads.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

ORDINARY_BETWEEN = 3
"""Dispatches in their turn between two urgent ones while others wait: so one in four at most [A14]."""


class Ready:
    """Personas that are due and wait for their dispatch, each once.

    They go in the order in which they began to wait, so nobody has a second turn while another still waits
    for its first, however long the intervals: who has had its turn stands behind all who waited then [A14].
    An urgent persona may go ahead of its turn; what goes in its turn is not counted as urgent, so that a
    crowd of urgent ones fares no worse than the others.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, float] = OrderedDict()
        """By the time since when each has waited; that of the first is the longest."""

        self._urgent: OrderedDict[str, None] = OrderedDict()
        """Those of them that are urgent, in the order in which they became so."""

        self._in_turn = ORDINARY_BETWEEN
        """Dispatches in their turn since the last one ahead of it."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, persona_id: str) -> bool:
        return persona_id in self._waiting

    @property
    def urgent(self) -> int:
        """How many of those who wait are urgent."""
        return len(self._urgent)

    def add(self, persona_id: str, now: float, urgent: bool = False) -> None:
        """Have a persona wait from now on, or keep its place; once urgent it stays so until it has gone."""
        self._waiting.setdefault(persona_id, now)
        if urgent:
            self._urgent.setdefault(persona_id)

    def remove(self, persona_id: str) -> None:
        """Have a persona wait no more."""
        self._waiting.pop(persona_id, None)
        self._urgent.pop(persona_id, None)

    def clear(self) -> None:
        """Have nobody wait."""
        self._waiting.clear()
        self._urgent.clear()

    def longest_wait(self, now: float) -> float:
        """Return for how many seconds the first has waited; 0 where nobody waits."""
        return max(now - next(iter(self._waiting.values())), 0.0) if self._waiting else 0.0

    def take(self, most: int) -> list[str]:
        """Return who may think now, at most so many, in order; they wait no more."""
        return [self._next() for _ in range(min(most, len(self._waiting)))]

    def _next(self) -> str:
        first = next(iter(self._waiting))
        if self._urgent and self._may_go_ahead():
            persona_id = next(iter(self._urgent))
            self._in_turn = self._in_turn + 1 if persona_id == first else 0
        else:
            persona_id = first
            self._in_turn += 1
        self.remove(persona_id)
        return persona_id

    def _may_go_ahead(self) -> bool:
        return self._in_turn >= ORDINARY_BETWEEN or len(self._urgent) == len(self._waiting)

    def __iter__(self) -> Iterator[str]:
        return iter(self._waiting)
