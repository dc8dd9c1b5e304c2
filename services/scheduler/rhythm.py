"""When each persona looks next [A10, A11]. Pure: times are seconds of a monotonic clock.

Due times are put on a grid, a sixteenth of the loop's interval wide, so that personas of a shard come due
together and their work travels together. Who may wait longer comes due on a coarser one.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import ceil, floor, log2
from typing import NamedTuple

GRID_FLOOR_S = 0.05
"""The narrowest grid, in seconds."""

SLOTS_AN_INTERVAL = 16

_EXACT = 1e-6
"""Part of the grid by which a due time may lie behind a slot and still belong to it: floats are not exact."""


class Due(NamedTuple):
    """Personas of one shard that have come due together."""

    at: float
    """When they were due. A wait that is counted from here, not from now, keeps the rhythm."""

    shard: int
    persona_ids: list[str]


class Rhythm:
    """One due time for each of many personas. Nothing here looks at personas that are not due.

    Setting, moving and removing a persona take the logarithm of the number of slots at most; `hasten` alone
    goes through all that it moves.
    """

    def __init__(self, interval_s: float) -> None:
        self._grid = _grid(interval_s)
        self._place: dict[str, _Group] = {}
        self._slots: dict[float, dict[int, _Group]] = {}
        self._heap: list[float] = []
        """Times of slots, of those that are no more too."""

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, persona_id: str) -> bool:
        return persona_id in self._place

    def due_of(self, persona_id: str) -> float | None:
        """Return when a persona is due; None where it has no time."""
        group = self._place.get(persona_id)
        return group.at if group is not None else None

    def set(self, persona_id: str, shard: int, due: float, slack: float = 0.0) -> float:
        """Give a persona its due time, instead of the one it has, and return it: up to a slot later.

        With `slack` it may be so many seconds later: those who have time come due together, and whoever looks
        for them wakes seldom.
        """
        grid = self._grid if slack <= self._grid else self._grid * 2 ** floor(log2(slack / self._grid))
        at = ceil(due / grid - _EXACT) * grid
        self.remove(persona_id)
        group = self._place[persona_id] = self._group(at, shard)
        group.members[persona_id] = None
        return at

    def remove(self, persona_id: str) -> None:
        """Take a persona's due time away, if it has one."""
        group = self._place.pop(persona_id, None)
        if group is not None:
            del group.members[persona_id]
            if not group.members:
                self._drop(group)

    def clear(self) -> None:
        """Let nobody be due."""
        self._place.clear()
        self._slots.clear()
        self._heap.clear()

    def pace(self, interval_s: float) -> None:
        """Put due times that are set from now on on the grid of another interval."""
        self._grid = _grid(interval_s)

    def hasten(self, latest: float) -> None:
        """Let nobody wait longer than until `latest`, up to a slot: the interval has become shorter."""
        late = [group for at in self._slots if at > latest for group in self._slots[at].values()]
        for group in late:
            for persona_id in list(group.members):
                self.set(persona_id, group.shard, latest)

    def next_due(self) -> float | None:
        """Return when somebody is due next; None where nobody is."""
        while self._heap:
            if self._heap[0] in self._slots:
                return self._heap[0]
            heappop(self._heap)
        return None

    def take_due(self, now: float) -> list[Due]:
        """Return those who are due, the longest overdue first. They have no due time any more."""
        taken: list[Due] = []
        while (at := self.next_due()) is not None and at <= now:
            heappop(self._heap)
            for shard, group in self._slots.pop(at).items():
                taken.append(Due(at, shard, list(group.members)))
                for persona_id in group.members:
                    del self._place[persona_id]
        return taken

    def _group(self, at: float, shard: int) -> _Group:
        slot = self._slots.get(at)
        if slot is None:
            slot = self._slots[at] = {}
            heappush(self._heap, at)
        group = slot.get(shard)
        if group is None:
            group = slot[shard] = _Group(at, shard)
        return group

    def _drop(self, group: _Group) -> None:
        slot = self._slots[group.at]
        del slot[group.shard]
        if not slot:
            del self._slots[group.at]
            if len(self._heap) > 2 * len(self._slots) + SLOTS_AN_INTERVAL:
                self._heap = list(self._slots)
                heapify(self._heap)


class _Group:
    """Personas of one shard in one slot, in the order in which they came."""

    __slots__ = ("at", "members", "shard")

    def __init__(self, at: float, shard: int) -> None:
        self.at = at
        self.shard = shard
        self.members: dict[str, None] = {}


def _grid(interval_s: float) -> float:
    return max(GRID_FLOOR_S, interval_s / SLOTS_AN_INTERVAL)
