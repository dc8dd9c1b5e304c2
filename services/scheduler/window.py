"""How many thoughts may be under way at once, by how long they wait for a thinker. Pure.

Under `adaptive` cadence the queue is kept short, so that what is urgent need not wait behind what is not:
additive increase, multiplicative decrease, as TCP does with its congestion window (RFC 5681), by delay.
"""

from __future__ import annotations

TARGET_S = 0.5
"""Wait for a thinker, in seconds, that is aimed at."""

LEAST = 8
MOST = 8192
LOAD_MOST = 8.0

_SHRINK = 0.8
_SHRINK_EVERY_S = 0.5
_WEIGHT = 0.2


class Window:
    """The most thoughts that may be under way; times are seconds of a monotonic clock."""

    def __init__(self, size: float = 64.0) -> None:
        self._size = size
        self._wait = 0.0
        self._shrunk_at = float("-inf")

    @property
    def size(self) -> int:
        """Thoughts that may be under way now."""
        return int(self._size)

    def waited(self, seconds: float, under_way: int, now: float) -> None:
        """Note how long a chunk has waited for its thinker."""
        self._wait += (seconds - self._wait) * _WEIGHT
        if seconds > TARGET_S:
            if now - self._shrunk_at >= max(_SHRINK_EVERY_S, seconds):
                self._shrunk_at = now
                self._size = max(self._size * _SHRINK, LEAST)
        elif under_way >= self._size / 2:
            self._size = min(self._size + max(1.0, self._size * 0.05), MOST)

    def load(self, longest_wait: float, interval_s: float, under_way: int) -> float:
        """Return by how much everybody's waits are stretched, at least 1 [A13].

        `longest_wait` is how long the first of those that are due has waited for its turn: as long as that
        is within an interval nobody needs to slow down. Where nothing is under way, nothing waits for a
        thinker: no grant would say so.
        """
        if not under_way:
            self._wait = 0.0
        behind = max(longest_wait / max(interval_s, TARGET_S), self._wait / (2 * TARGET_S))
        return min(max(behind, 1.0), LOAD_MOST)
