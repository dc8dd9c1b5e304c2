"""The `fixed` cadence: every persona thinks once an interval, shard by shard."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from libs.concurrency.waiting import set_within
from libs.contracts.limits import SHARDS
from libs.roster.state import Roster
from services.scheduler.agenda import Agenda, first_tick, spread
from services.scheduler.dispatching import Dispatching, in_chunks
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner
from services.scheduler.ticking import Ticking

_YIELD_S = 0.005
"""For so long, in seconds, ticks may keep everything else in the process waiting."""

_EARLY_S = 0.001
"""Event loops wait for whole milliseconds: ticks may begin so many seconds early, rather than late."""

_BEAT = -1
"""Stands in the agenda for the loop itself: `last_tick_at` advances with no persona at all [3.4]."""


class Ticker(Ticking):
    """Ticks every persona once an interval [3.1, 3.4]."""

    def __init__(
        self,
        dispatching: Dispatching,
        roster: Roster,
        owners: Mapping[int, ShardOwner],
        enabled: bool,
        metrics: SchedulerMetrics,
    ) -> None:
        super().__init__(roster, owners, enabled)
        self._dispatching = dispatching
        self._metrics = metrics
        self._agenda = Agenda()
        self._began = 0.0

    @property
    def ticking(self) -> bool:
        """Whether this process ticks."""
        return super().ticking and _BEAT in self._agenda

    def loop_changed(self) -> None:
        """Begin, end or pace the ticking as the roster now says. Everybody is due at once on a start."""
        if self.run_now is None:
            self._agenda.clear()
        else:
            now = self._now()
            self._agenda.hasten(now + self._interval())
            self._agenda.add(_BEAT, now)
            for shard in self._members:
                lag = self._lag(shard, together=True)
                self._agenda.add(shard, now + lag, lag)
        super().loop_changed()

    def enter(self, shard: int) -> None:
        """Begin to tick a shard's personas."""
        super().enter(shard)
        if self.run_now is not None:
            now = self._now()
            self._agenda.add(_BEAT, now)
            self._arm(shard, now)
            self._wake.set()

    def leave(self, shard: int) -> None:
        """Tick a shard's personas no more."""
        super().leave(shard)
        self._agenda.remove(shard)

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self._wake.clear()
            due = self._agenda.next_due()
            now = self._now()
            if due is None or due > now + _EARLY_S:
                await set_within(self._wake, None if due is None else due - now - _EARLY_S / 2)
                continue
            self._began = now
            for shard, since in self._agenda.take_due(now + _EARLY_S, self._interval(), self._lag):
                await self._tick(shard, since)

    async def _tick(self, shard: int, since: float) -> None:
        run = self.run_now
        if run is None:
            return
        at = datetime.now(UTC)
        self.note_tick(at)
        owner = self._owners.get(shard)
        if owner is None:
            return
        self._metrics.lag.observe(max(self._now() - since, 0.0))
        for members in in_chunks(list(self._members.get(shard, ()))):
            if run != self.run_now or self._owners.get(shard) is not owner or owner.is_halted(run):
                return
            self._begin(owner, run, members, at)
            await self._let_others()

    def _begin(self, owner: ShardOwner, run: int, members: Sequence[str], at: datetime) -> None:
        """Make thoughts due; a persona whose last thought is under way skips its tick [3.2]."""
        there = self._members.get(owner.shard, {})
        free = [name for name in members if name in there and not owner.dispatches.in_flight(name)]
        self._metrics.tick_skipped(len(members) - len(free))
        if free:
            self._dispatching.begin(owner, run, free, at)

    async def _let_others(self) -> None:
        """Give way to everything else in the process, where ticks have kept it waiting for long."""
        if self._now() - self._began > _YIELD_S:
            await asyncio.sleep(0)
            self._began = self._now()

    def _arm(self, shard: int, now: float) -> None:
        """Put a shard that is taken over while the loop runs into the agenda, in the rhythm of the run."""
        started_at, interval = self._loop().started_at, self._interval()
        wall = datetime.now(UTC)
        ticked_at = self._owners[shard].ledger.last_tick_at
        since_start = (wall - started_at).total_seconds() if started_at is not None else 0.0
        since_tick = (wall - ticked_at).total_seconds() if ticked_at is not None else None
        first = first_tick(now, max(since_start, 0.0), since_tick, interval)
        lag = self._lag(shard)
        self._agenda.add(shard, first + lag, lag)

    def _lag(self, shard: int, *, together: bool = False) -> float:
        """Return by how many seconds a shard's ticks come behind the rhythm of the run."""
        if shard == _BEAT:
            return 0.0
        shards = 0 if together else sum(1 for members in self._members.values() if members)
        return spread(self._personas, self._interval(), shards) * shard / SHARDS
