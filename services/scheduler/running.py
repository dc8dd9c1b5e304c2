"""The clock that idle clocks go by [A17]."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

MOST_S = 15.0
"""What a turn counts at most: then its process was stopped, or had no broker."""


class RunningTime:
    """Seconds for which the loop has run while this process was awake and its broker answered.

    Somebody says every few seconds that it is so. Where nobody does, the clock stands after 15 s; so an
    outage of days counts no more than that.
    """

    def __init__(self, runs: Callable[[], bool], clock: Callable[[], float] = monotonic) -> None:
        self._runs = runs
        self._clock = clock
        self._ran = False
        self._seconds = 0.0
        self._turned_at = clock()

    def seconds(self) -> float:
        """Return how long that was until now."""
        if self._runs() is not self._ran:
            self.turn()
        return self._seconds + self._since()

    def turn(self) -> None:
        """Note that all is well, or that the loop was started or stopped."""
        self._seconds += self._since()
        self._turned_at = self._clock()
        self._ran = self._runs()

    def _since(self) -> float:
        return min(max(self._clock() - self._turned_at, 0.0), MOST_S) if self._ran else 0.0
