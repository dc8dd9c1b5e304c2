"""When each shard's personas are due. Pure: times are seconds of a monotonic clock that the caller reads."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

RATE = 2_500
"""Dispatches a second that ticks are spread for: so many personas are not made due in less than a second.

An eighth of what is possible, so that a large swarm leaves the processors to others most of the time, and no
thought waits long for those before it.
"""

CHUNK_S = 0.005
"""A shard's work costs all processes together about a millisecond of processor time, however few personas it
is for. So many seconds after another shard's ticks nothing waits for what that one began.
"""


class Agenda:
    """Shards by the time of their next tick [3.1, 3.4].

    All personas of a shard tick together, so that their work travels together; shards tick apart, each by a
    lag of its own. A tick that comes late is followed by the next one at once, but never by a burst: the next
    is due one interval after this one was, or now.
    """

    def __init__(self) -> None:
        self._due: dict[int, float] = {}
        self._lag: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, shard: int) -> bool:
        return shard in self._due

    def add(self, shard: int, due: float, lag: float = 0.0) -> None:
        """Give a shard its first tick, which has a lag in it; one that has a time already keeps it."""
        if shard not in self._due:
            self._lag[shard] = lag
            self._set(shard, due)

    def remove(self, shard: int) -> None:
        """Tick a shard no more."""
        self._due.pop(shard, None)
        self._lag.pop(shard, None)

    def clear(self) -> None:
        """Tick nobody."""
        self._due.clear()
        self._lag.clear()
        self._heap.clear()

    def hasten(self, latest: float) -> None:
        """Let nobody wait longer than until `latest`: the interval has become shorter."""
        self._due = {shard: min(due, latest) for shard, due in self._due.items()}
        self._heap = [(due, shard) for shard, due in self._due.items()]
        heapify(self._heap)

    def next_due(self) -> float | None:
        """Return the time of the next tick; None where nobody is to be ticked."""
        while self._heap:
            due, shard = self._heap[0]
            if self._due.get(shard) == due:
                return due
            heappop(self._heap)
        return None

    def take_due(
        self, now: float, interval: float, lag: Callable[[int], float] = lambda shard: 0.0
    ) -> list[tuple[int, float]]:
        """Return the shards that are due, each with the time it was due, and set their next times.

        Where the lag that a shard is to have is another by now, its next time moves by the difference.
        """
        taken: list[tuple[int, float]] = []
        while (due := self.next_due()) is not None and due <= now:
            shard = heappop(self._heap)[1]
            del self._due[shard]  # an entry of the heap that equals this one is void with it
            taken.append((shard, due))
        for shard, due in taken:
            moved = (wanted := lag(shard)) - self._lag[shard]
            self._lag[shard] = wanted
            self._set(shard, max(due + interval + moved, now))
        return taken

    def _set(self, shard: int, due: float) -> None:
        self._due[shard] = due
        heappush(self._heap, (due, shard))


def first_tick(now: float, since_start: float, since_tick: float | None, interval: float) -> float:
    """Return when a shard ticks first that is taken over while the loop runs.

    Ticks keep to the rhythm of the run's start, so a restart shifts nothing. A shard that has not ticked in
    this run, or missed a tick, is due at once. `since_tick` is None where it never ticked.
    """
    into = since_start % interval
    if since_tick is None or since_tick > into:
        return now
    return now + interval - into


def spread(personas: int, interval: float, shards: int = 0) -> float:
    """Return over how many seconds the ticks of so many personas, in so many shards, are spread.

    A large swarm would otherwise be due all at once, and be late. Where all are due at once, as on a start,
    shards are left out: a small swarm's first ticks then come together, and only the next ones apart.
    """
    return min(max(personas / RATE, shards * CHUNK_S), 0.8 * interval)
