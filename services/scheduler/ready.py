"""Who thinks next among personas that are due, where not all can at once [A12–A14]. Pure.

Times are seconds of a monotonic clock that the caller reads.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

ORDINARY_BETWEEN = 3
"""Dispatches in their turn between two urgent ones while others wait: so one in four at most [A14]."""

NEVER = float("-inf")
NOBODY = float("inf")


class _Waiting(NamedTuple):
    since: float
    last: float
    """When it last had a turn."""


class Ready:
    """Personas that are due and wait for their dispatch, each once.

    They go in the order in which they began to wait, so nobody has a second turn while another still waits
    for its first, however long the intervals: who has had its turn stands behind all who waited then [A14].
    An urgent persona may go ahead of its turn; what goes in its turn is not counted as urgent, so that a
    crowd of urgent ones fares no worse than the others.

    Where somebody waits elsewhere, whoever has had a turn since then has none here until that one has.
    """

    def __init__(self) -> None:
        self.in_turn = 0
        """Dispatches in their turn since `take_counts`."""

        self.ahead = 0
        """Dispatches ahead of their turn since then."""

        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        """By the time since when each has waited; that of the first is the longest."""

        self._urgent: OrderedDict[str, None] = OrderedDict()
        """Those of them that are urgent, in the order in which they became so."""

        self._since_ahead = ORDINARY_BETWEEN
        """Dispatches in their turn, elsewhere too, since the last one ahead of it."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, persona_id: str) -> bool:
        return persona_id in self._waiting

    @property
    def urgent(self) -> int:
        """How many of those who wait are urgent."""
        return len(self._urgent)

    def add(self, persona_id: str, now: float, urgent: bool = False, last: float = NEVER) -> None:
        """Have a persona wait from now on, or keep its place; once urgent it stays so until it has gone.

        `last` is when it last had a turn.
        """
        self._waiting.setdefault(persona_id, _Waiting(now, last))
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
        return max(now - next(iter(self._waiting.values())).since, 0.0) if self._waiting else 0.0

    def take_counts(self) -> tuple[int, int]:
        """Return how many were dispatched in their turn, and ahead of it, since the last call."""
        counts = self.in_turn, self.ahead
        self.in_turn = self.ahead = 0
        return counts

    def heard(self, in_turn: int, ahead: int) -> None:
        """Note dispatches of another scheduler: one in four is one in four of all."""
        self._since_ahead = 0 if ahead else self._since_ahead + in_turn

    def take(self, most: int, elsewhere: float = NOBODY) -> list[str]:
        """Return who may think now, at most so many, in order; they wait no more.

        `elsewhere` is since when somebody has waited too long in another scheduler.
        """
        taken: list[str] = []
        while len(taken) < most and (persona_id := self._next(elsewhere)) is not None:
            self.remove(persona_id)
            taken.append(persona_id)
        return taken

    def _next(self, elsewhere: float) -> str | None:
        if not self._waiting:
            return None
        first = next(iter(self._waiting))
        is_firsts_turn = self._waiting[first].last < elsewhere
        urgent = next(iter(self._urgent), None)
        if urgent is not None and (urgent != first or not is_firsts_turn) and self._may_go_ahead(elsewhere):
            self.ahead += 1
            self._since_ahead = 0
            return urgent
        if is_firsts_turn:
            self.in_turn += 1
            self._since_ahead += 1
            return first
        return None

    def _may_go_ahead(self, elsewhere: float) -> bool:
        only_urgent = len(self._urgent) == len(self._waiting) and elsewhere == NOBODY
        return self._since_ahead >= ORDINARY_BETWEEN or only_urgent

    def __iter__(self) -> Iterator[str]:
        return iter(self._waiting)
