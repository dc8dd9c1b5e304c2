"""The roll-ups of a shard's swarms: which was the last, what all have cost. Pure; a fold of the journal."""

from __future__ import annotations

import msgspec

from libs.contracts.accounts import Credits
from libs.contracts.journal import RollUpCost
from libs.contracts.lives import Spent
from libs.contracts.place import Place
from services.scheduler.account import NOTHING
from services.scheduler.accounts import window_of

ROLL_UPS_KNOWN = 1024
"""Swarms of a shard whose last roll-up is known again when it is repeated, and whose cost is."""

ROLL_UPS_BYTES = 384 * 1024
"""What they may weigh together in the head of a checkpoint, which is one message: of long ids fewer."""

_ENTRY_BYTES = 280
_TIMES_NAMED = 4

_encode = msgspec.json.Encoder().encode


class _Swarm:
    __slots__ = ("cost", "folded_in", "id", "minute", "spent")

    def __init__(self, roll_up_id: str, spent: Spent, minute: int = 0, cost: Credits = NOTHING) -> None:
        self.id = roll_up_id
        self.spent = spent
        self.folded_in: Place | None = None
        """Where the journal has the newest snapshot that is folded in; None where nobody has said so."""

        self.cost = cost
        """What the last summary by a model has cost, in `minute`; nothing where that is not known."""

        self.minute = minute


class RollUps:
    """Of the swarms that were rolled up last."""

    def __init__(self) -> None:
        self._swarms: dict[str, _Swarm] = {}
        """Those rolled up last stand last."""

        self._bytes = 0

    def __len__(self) -> int:
        return len(self._swarms)

    def last(self, swarm_id: str) -> str | None:
        """Return the id of a swarm's last roll-up."""
        swarm = self._swarms.get(swarm_id)
        return swarm.id if swarm is not None else None

    def behind(self, swarm_id: str, first: Place | None) -> Place | None:
        """Return up to where a swarm's snapshots are folded in, if a roll-up does not begin behind it."""
        swarm = self._swarms.get(swarm_id)
        if swarm is None or swarm.folded_in is None or first is None or first > swarm.folded_in:
            return None
        return swarm.folded_in

    def cost(self, swarm_id: str) -> tuple[Credits, int]:
        """Return what a swarm's last summary by a model has cost, and in which minute."""
        swarm = self._swarms.get(swarm_id)
        return (swarm.cost, swarm.minute) if swarm is not None else (NOTHING, 0)

    def add(self, swarm_id: str, roll_up_id: str, last: Place | None = None) -> None:
        """Fold a roll-up; `last` is the place of the newest snapshot that it folds in."""
        swarm = self._swarms.pop(swarm_id, None)
        if swarm is None:
            swarm = _Swarm(roll_up_id, Spent())
            self._bytes += _weight(swarm_id)
        self._swarms[swarm_id] = swarm
        swarm.id = roll_up_id
        swarm.folded_in = last or swarm.folded_in
        while len(self._swarms) > ROLL_UPS_KNOWN or self._bytes > ROLL_UPS_BYTES:
            oldest = next(iter(self._swarms))
            del self._swarms[oldest]
            self._bytes -= _weight(oldest)

    def spend(self, one: RollUpCost, *, fresh: bool) -> None:
        """Fold what a roll-up has cost; the sum of a checkpoint holds it already where it is not fresh."""
        swarm = self._swarms.get(one.swarm_id)
        if swarm is None:
            return
        swarm.cost = Credits(one.spent.tokens, one.spent.cpu_ms)
        swarm.minute = window_of(one.at.timestamp())
        if fresh:
            swarm.spent = swarm.spent.plus(one.spent)

    def dump_ids(self) -> dict[str, str]:
        """Return the last roll-up of each swarm, for a checkpoint."""
        return {swarm_id: swarm.id for swarm_id, swarm in self._swarms.items()}

    def dump_places(self) -> dict[str, Place]:
        """Return up to where snapshots are folded in, of each swarm of which that is known."""
        return {name: one.folded_in for name, one in self._swarms.items() if one.folded_in is not None}

    def dump_spent(self) -> dict[str, Spent]:
        """Return what those swarms have spent that have spent anything."""
        return {swarm_id: one.spent for swarm_id, one in self._swarms.items() if one.spent.thoughts}

    def dump_costs(self) -> dict[str, tuple[int, Credits]]:
        """Return minute and cost of the last summary by a model of those swarms that had one."""
        return {
            swarm_id: (one.minute, one.cost) for swarm_id, one in self._swarms.items() if one.cost != NOTHING
        }

    def restore(
        self,
        ids: dict[str, str],
        spent: dict[str, Spent],
        folded_in: dict[str, Place],
        costs: dict[str, tuple[int, Credits]],
    ) -> None:
        """Take what was dumped."""
        self._swarms = {
            swarm_id: _Swarm(roll_up_id, spent.get(swarm_id, Spent()), *costs.get(swarm_id, (0, NOTHING)))
            for swarm_id, roll_up_id in ids.items()
        }
        for swarm_id, place in folded_in.items():
            self._swarms[swarm_id].folded_in = place
        self._bytes = sum(map(_weight, self._swarms))


def _weight(swarm_id: str) -> int:
    """Return what a swarm takes at most in the head of a checkpoint, in bytes."""
    return _ENTRY_BYTES + _TIMES_NAMED * len(_encode(swarm_id))
