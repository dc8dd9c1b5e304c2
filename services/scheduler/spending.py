"""What a shard's personas, and roll-ups of its swarms, have spent by hour, swarm and role. Pure; a fold."""

from __future__ import annotations

from datetime import datetime

from libs.contracts.journal import RollUpCost, ThoughtEntry
from libs.contracts.lives import Spent, SpentInHour
from libs.contracts.rollups import ROLL_UP

HOURS_KEPT = 48
HOUR_S = 3600

_NOTHING = Spent()


class Spending:
    """The newest 48 hours in which anything was spent."""

    def __init__(self) -> None:
        self._hours: dict[int, dict[tuple[str | None, str], Spent]] = {}

    def add(self, thought: ThoughtEntry) -> None:
        """Count a thought that has cost something, in the hour in which its tick began."""
        if (effort := thought.effort) is not None:
            spent = Spent(1, effort.tokens, effort.cpu_ms)
            self._add(thought.tick_at, thought.swarm_id, effort.role, spent)

    def add_roll_up(self, one: RollUpCost) -> None:
        """Count what a roll-up has cost, in the hour in which it was stored."""
        self._add(one.at, one.swarm_id, ROLL_UP, one.spent)

    def _add(self, at: datetime, swarm_id: str | None, role: str, spent: Spent) -> None:
        hour = int(at.timestamp()) // HOUR_S
        by_role = self._hours.setdefault(hour, {})
        by_role[swarm_id, role] = by_role.get((swarm_id, role), _NOTHING).plus(spent)
        while len(self._hours) > HOURS_KEPT:
            del self._hours[min(self._hours)]

    def dump(self) -> list[SpentInHour]:
        """Return everything, oldest first."""
        return [
            SpentInHour(hour, swarm_id, role, spent)
            for hour, by_role in sorted(self._hours.items())
            for (swarm_id, role), spent in by_role.items()
        ]

    def restore(self, hours: list[SpentInHour]) -> None:
        """Take what was dumped."""
        self._hours = {}
        for one in hours:
            self._hours.setdefault(one.hour, {})[one.swarm_id, one.role] = one.spent
