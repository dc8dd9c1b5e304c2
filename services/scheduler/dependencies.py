"""Personas that wait for others [A15]. Pure: times are seconds of a monotonic clock.

Who waits is due once everybody it waits for has completed a thought since its own last one. Who is reaped, or
silent for too long, is waited for no more until it thinks again, and that is said once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Set

SILENT_S = 60.0
"""Silence after which nobody is waited for, at least."""

SILENT_INTERVALS = 64
"""The same in intervals of the loop: somebody who rests looks at least so often."""


class _Waiting:
    __slots__ = ("given_up", "since", "thoughts")

    def __init__(self, thoughts: dict[str, int], since: float, given_up: set[str]) -> None:
        self.thoughts = thoughts
        """Per persona waited for, how many thoughts it had when the wait began."""

        self.since = since
        self.given_up = given_up


class Dependencies:
    """Who waits for whom, and what those have thought meanwhile, as far as it was seen."""

    def __init__(self, is_reaped: Callable[[str], bool]) -> None:
        self._is_reaped = is_reaped
        self._waiting: dict[str, _Waiting] = {}
        self._dependents: dict[str, set[str]] = defaultdict(set)
        self._thoughts: dict[str, int] = {}

    def __contains__(self, persona_id: str) -> bool:
        return persona_id in self._waiting

    @property
    def waited_for(self) -> Set[str]:
        """Everybody that somebody waits for."""
        return self._dependents.keys()

    def set(self, persona_id: str, waiting_for: Iterable[str], now: float) -> None:
        """Have a persona wait for these from now on, and for nobody else."""
        self.forget(persona_id)
        names = set(waiting_for)
        if names:
            thoughts = {name: self._thoughts.get(name, 0) for name in names}
            self._waiting[persona_id] = _Waiting(thoughts, now, set())
        for name in names:
            self._dependents[name].add(persona_id)

    def forget(self, persona_id: str) -> None:
        """Have a persona wait for nobody."""
        waiting = self._waiting.pop(persona_id, None)
        for name in waiting.thoughts if waiting is not None else ():
            self._dependents[name].discard(persona_id)
            if not self._dependents[name]:
                del self._dependents[name]

    def thought(self, persona_id: str, count: int) -> list[str]:
        """Note a persona's n-th thought and return those who waited for it."""
        self._thoughts[persona_id] = max(self._thoughts.get(persona_id, 0), count)
        return sorted(self._dependents.get(persona_id, ()))

    def began(self, persona_id: str, now: float) -> None:
        """Note that a persona begins a thought: from here on it waits for the next ones."""
        if (waiting := self._waiting.get(persona_id)) is not None:
            thoughts = {name: self._thoughts.get(name, 0) for name in waiting.thoughts}
            silent = {name for name in waiting.given_up if thoughts[name] == waiting.thoughts[name]}
            self._waiting[persona_id] = _Waiting(thoughts, now, silent)

    def unfinished(self, persona_id: str) -> list[str]:
        """Return whom a persona still waits for."""
        waiting = self._waiting.get(persona_id)
        if waiting is None:
            return []
        return sorted(
            name
            for name, before in waiting.thoughts.items()
            if name not in waiting.given_up and self._thoughts.get(name, 0) <= before
        )

    def complete(self, persona_id: str) -> bool:
        """Whether somebody whom a persona waited for has thought, and nobody is left to wait for."""
        waiting = self._waiting.get(persona_id)
        if waiting is None or self.unfinished(persona_id):
            return False
        return any(self._thoughts.get(name, 0) > before for name, before in waiting.thoughts.items())

    def give_up(self, persona_id: str, now: float, interval_s: float) -> list[tuple[str, bool]]:
        """Give up who is reaped, or silent for too long; return them, and whether reaped."""
        waiting = self._waiting.get(persona_id)
        if waiting is None:
            return []
        is_silent = now - waiting.since >= max(SILENT_S, SILENT_INTERVALS * interval_s)
        left = [(name, self._is_reaped(name)) for name in self.unfinished(persona_id)]
        given_up = [(name, reaped) for name, reaped in left if reaped or is_silent]
        waiting.given_up.update(name for name, _ in given_up)
        return given_up
