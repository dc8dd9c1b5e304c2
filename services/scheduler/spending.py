"""What a shard's personas have spent hour by hour, by swarm and role. Pure; a fold of their thoughts."""

from __future__ import annotations

from libs.contracts.journal import ThoughtEntry
from libs.contracts.lives import Spent, SpentInHour

HOURS_KEPT = 48
HOUR_S = 3600

_NOTHING = Spent()


class Spending:
    """The newest 48 hours in which anything was spent."""

    def __init__(self) -> None:
        self._hours: dict[int, dict[tuple[str | None, str], Spent]] = {}

    def add(self, thought: ThoughtEntry) -> None:
        """Count a thought that has cost something, in the hour in which its tick began."""
        effort = thought.effort
        if effort is None:
            return
        hour = int(thought.tick_at.timestamp()) // HOUR_S
        spent = self._hours.setdefault(hour, {})
        key = thought.swarm_id, effort.role
        before = spent.get(key, _NOTHING)
        spent[key] = Spent(before.thoughts + 1, before.tokens + effort.tokens, before.cpu_ms + effort.cpu_ms)
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
