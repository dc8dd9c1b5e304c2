"""What a shard's personas, and roll-ups of its swarms, have spent by hour, swarm and role. Pure; a fold."""

from __future__ import annotations

from datetime import datetime

import msgspec

from libs.contracts.journal import RollUpCost, ThoughtEntry
from libs.contracts.lives import OTHERS, Spent, SpentInHour
from libs.contracts.rollups import ROLL_UP

HOURS_KEPT = 48
HOUR_S = 3600

SPENDING_BYTES = 1024 * 1024
"""What all of it may weigh in the head of a checkpoint, which is one message."""

_FREED_BYTES = SPENDING_BYTES // 8
"""So much is freed at once: that sorts an hour's pairs."""

_ENTRY_BYTES = 96
_NOTHING = Spent()

Pair = tuple[str | None, str]
"""A swarm and a role."""

_TOGETHER: Pair = OTHERS, OTHERS

_encode = msgspec.json.Encoder().encode


class Spending:
    """The newest 48 hours in which anything was spent.

    Where that is too much, the pairs that spent least in the oldest hours count together in their hour.
    """

    def __init__(self) -> None:
        self._hours: dict[int, dict[Pair, Spent]] = {}
        self._bytes = 0

    def add(self, thought: ThoughtEntry) -> None:
        """Count a thought that has cost something, in the hour in which its tick began."""
        if (effort := thought.effort) is not None:
            spent = Spent(1, effort.tokens, effort.cpu_ms)
            self._add(_hour(thought.tick_at), (thought.swarm_id, effort.role), spent)

    def add_roll_up(self, one: RollUpCost) -> None:
        """Count what a roll-up has cost, in the hour in which it was stored."""
        self._add(_hour(one.at), (one.swarm_id, ROLL_UP), one.spent)

    def _add(self, hour: int, pair: Pair, spent: Spent) -> None:
        self._count(hour, pair, spent)
        while len(self._hours) > HOURS_KEPT:
            for gone in self._hours.pop(min(self._hours)):
                self._bytes -= _weight(gone)
        if self._bytes > SPENDING_BYTES:
            self._put_together()

    def _count(self, hour: int, pair: Pair, spent: Spent) -> None:
        by_pair = self._hours.setdefault(hour, {})
        if pair not in by_pair:
            self._bytes += _weight(pair)
        by_pair[pair] = by_pair.get(pair, _NOTHING).plus(spent)

    def _put_together(self) -> None:
        for hour, by_pair in sorted(self._hours.items()):
            for pair in sorted(by_pair.keys() - {_TOGETHER}, key=lambda pair: _size(pair, by_pair[pair])):
                if self._bytes <= SPENDING_BYTES - _FREED_BYTES:
                    return
                self._count(hour, _TOGETHER, by_pair.pop(pair))
                self._bytes -= _weight(pair)

    def dump(self) -> list[SpentInHour]:
        """Return everything, oldest first."""
        return [
            SpentInHour(hour, swarm_id, role, spent)
            for hour, by_pair in sorted(self._hours.items())
            for (swarm_id, role), spent in by_pair.items()
        ]

    def restore(self, hours: list[SpentInHour]) -> None:
        """Take what was dumped."""
        self._hours, self._bytes = {}, 0
        for one in hours:
            self._count(one.hour, (one.swarm_id, one.role), one.spent)


def _hour(at: datetime) -> int:
    return int(at.timestamp()) // HOUR_S


def _weight(pair: Pair) -> int:
    """Return what a pair takes at most in the head of a checkpoint, in bytes."""
    return _ENTRY_BYTES + len(_encode(pair))


def _size(pair: Pair, spent: Spent) -> tuple[int, int, int, str, str]:
    return spent.tokens, spent.cpu_ms, spent.thoughts, pair[0] or "", pair[1]
