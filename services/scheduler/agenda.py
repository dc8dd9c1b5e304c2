"""When each persona is due. Pure: times are seconds of a monotonic clock that the caller reads."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush


class Agenda:
    """Personas by the time of their next tick [3.1, 3.4].

    A tick that comes late is followed by the next one at once, but never by a burst: the next is due one
    interval after this one was, or now.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, persona_id: str) -> bool:
        return persona_id in self._due

    def add(self, persona_id: str, due: float) -> None:
        """Give a persona its first tick; one that has a time already keeps it."""
        if persona_id not in self._due:
            self._set(persona_id, due)

    def remove(self, persona_ids: Iterable[str]) -> None:
        """Tick these no more."""
        for persona_id in persona_ids:
            self._due.pop(persona_id, None)

    def clear(self) -> None:
        """Tick nobody."""
        self._due.clear()
        self._heap.clear()

    def set_interval(self, interval: float, now: float) -> None:
        """Change the interval: whoever would wait longer than the new one waits that long from now."""
        self._interval = interval
        self._due = {name: min(due, now + interval) for name, due in self._due.items()}
        self._heap = [(due, name) for name, due in self._due.items()]
        heapify(self._heap)

    def again(self, persona_id: str, due: float) -> None:
        """Move a persona's next tick forward: what was begun for it came to nothing."""
        if persona_id in self._due:
            self._set(persona_id, min(due, self._due[persona_id]))

    def next_due(self) -> float | None:
        """Return the time of the next tick; None where nobody is to be ticked."""
        while self._heap:
            due, persona_id = self._heap[0]
            if self._due.get(persona_id) == due:
                return due
            heappop(self._heap)
        return None

    def take_due(self, now: float, most: int) -> list[tuple[str, float]]:
        """Return up to `most` personas that are due, each with the time it was due, and set their next."""
        taken: list[tuple[str, float]] = []
        while len(taken) < most:
            due = self.next_due()
            if due is None or due > now:
                break
            taken.append((heappop(self._heap)[1], due))
        for persona_id, due in taken:
            self._set(persona_id, max(due + self._interval, now))
        return taken

    def _set(self, persona_id: str, due: float) -> None:
        self._due[persona_id] = due
        heappush(self._heap, (due, persona_id))
