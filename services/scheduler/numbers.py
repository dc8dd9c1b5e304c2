"""Sets of thought numbers that are nearly one run: small in memory, exact in any order. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable


class Numbers:
    """A set of whole numbers, kept as its runs: first and last of each, one after the other.

    Thoughts are numbered one by one, so nearly always there is one run, however many thoughts there were.
    """

    __slots__ = ("_ends",)

    def __init__(self, runs: Iterable[int] = ()) -> None:
        self._ends = list(runs)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._ends, number)
        return at % 2 == 1 or (at > 0 and self._ends[at - 1] == number)

    def add(self, number: int) -> None:
        """Add a number; one that is there already changes nothing."""
        if number in self:
            return
        at = bisect_right(self._ends, number)  # even: between two runs
        joins_before = at > 0 and self._ends[at - 1] == number - 1
        joins_behind = at < len(self._ends) and self._ends[at] == number + 1
        begin = at - 1 if joins_before else at
        end = at + 1 if joins_behind else at
        self._ends[begin:end] = [number] * (2 - joins_before - joins_behind)

    def dump(self) -> list[int]:
        """Return the runs' ends."""
        return list(self._ends)
