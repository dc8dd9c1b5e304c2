"""Personas that wait for others [A15]. Pure: `now` is of a monotonic clock, `at` and `after` of wall time.

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
    __slots__ = ("after", "given_up", "since", "thoughts")

    def __init__(self, thoughts: dict[str, int], since: float, after: float, given_up: set[str]) -> None:
        self.thoughts = thoughts
        """Per persona waited for, how many thoughts it had when the wait began, as far as that is known."""

        self.since = since
        """When silence began to count."""

        self.after = after
        """When the wait began: thoughts up to then are none that it waits for."""

        self.given_up = given_up


class Dependencies:
    """Who waits for whom, and what those have thought meanwhile, as far as it was seen."""

    def __init__(self, is_reaped: Callable[[str], bool]) -> None:
        self._is_reaped = is_reaped
        self._waiting: dict[str, _Waiting] = {}
        self._dependents: dict[str, set[str]] = defaultdict(set)
        self._thoughts: dict[str, tuple[int, float]] = {}
        """How many each has had, and when the last was heard of or stored."""

    def __contains__(self, persona_id: str) -> bool:
        return persona_id in self._waiting

    @property
    def waited_for(self) -> Set[str]:
        """Everybody that somebody waits for."""
        return self._dependents.keys()

    def set(self, persona_id: str, waiting_for: Iterable[str], now: float, after: float) -> None:
        """Have a persona wait for what these think after some time, and for nobody else."""
        self.forget(persona_id)
        names = set(waiting_for)
        if names:
            thoughts = {name: self._before(name, after) for name in names}
            self._waiting[persona_id] = _Waiting(thoughts, now, after, set())
        for name in names:
            self._dependents[name].add(persona_id)

    def forget(self, persona_id: str) -> None:
        """Have a persona wait for nobody."""
        waiting = self._waiting.pop(persona_id, None)
        for name in waiting.thoughts if waiting is not None else ():
            self._dependents[name].discard(persona_id)
            if not self._dependents[name]:
                del self._dependents[name]

    def thought(self, persona_id: str, count: int, at: float) -> list[str]:
        """Note a persona's n-th thought, heard of as it came, and return those who waited for it."""
        if count > self._count(persona_id):
            self._thoughts[persona_id] = count, at
        return sorted(self._dependents.get(persona_id, ()))

    def recalled(self, persona_id: str, count: int, at: float) -> list[str]:
        """Note a persona's last thought, read where it is stored, and return those who wait for it."""
        for name in self._dependents.get(persona_id, ()):
            waiting = self._waiting[name]
            if at <= waiting.after:
                waiting.thoughts[persona_id] = max(waiting.thoughts[persona_id], count)
        return self.thought(persona_id, count, at)

    def began(self, persona_id: str, now: float, at: float) -> None:
        """Note that a persona begins a thought: from here on it waits for the next ones."""
        if (waiting := self._waiting.get(persona_id)) is not None:
            thoughts = {name: self._count(name) for name in waiting.thoughts}
            silent = {name for name in waiting.given_up if thoughts[name] == waiting.thoughts[name]}
            self._waiting[persona_id] = _Waiting(thoughts, now, at, silent)

    def unfinished(self, persona_id: str) -> list[str]:
        """Return whom a persona still waits for."""
        waiting = self._waiting.get(persona_id)
        if waiting is None:
            return []
        return sorted(
            name
            for name, before in waiting.thoughts.items()
            if name not in waiting.given_up and self._count(name) <= before
        )

    def complete(self, persona_id: str) -> bool:
        """Whether somebody whom a persona waited for has thought, and nobody is left to wait for."""
        waiting = self._waiting.get(persona_id)
        if waiting is None or self.unfinished(persona_id):
            return False
        return any(self._count(name) > before for name, before in waiting.thoughts.items())

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

    def _count(self, persona_id: str) -> int:
        return self._thoughts.get(persona_id, (0, 0.0))[0]

    def _before(self, persona_id: str, after: float) -> int:
        count, at = self._thoughts.get(persona_id, (0, 0.0))
        return count if at <= after else count - 1
