"""Ticking: when each persona is due, while the loop runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from libs.concurrency.waiting import set_within
from libs.contracts.limits import SHARDS
from libs.contracts.personas import PersonaStatus
from libs.contracts.registry import LoopPhase, LoopState
from libs.contracts.tokens import shard_of
from libs.roster.state import Roster
from services.scheduler.agenda import Agenda, first_tick, spread
from services.scheduler.dispatching import Dispatching, in_chunks
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner

_YIELD_S = 0.005
"""For so long, in seconds, ticks may keep everything else in the process waiting."""

_EARLY_S = 0.001
"""Event loops wait for whole milliseconds: ticks may begin so many seconds early, rather than late."""

_BEAT = -1
"""Stands in the agenda for the loop itself: `last_tick_at` advances with no persona at all [3.4]."""


class Ticker:
    """Ticks the active personas of the shards that this process owns, while the loop runs."""

    def __init__(
        self,
        dispatching: Dispatching,
        roster: Roster,
        owners: Mapping[int, ShardOwner],
        enabled: bool,
        metrics: SchedulerMetrics,
    ) -> None:
        self.last_tick_at: datetime | None = None
        self._dispatching = dispatching
        self._roster = roster
        self._owners = owners
        self._enabled = enabled
        self._metrics = metrics
        self._agenda = Agenda()
        self._members: dict[int, dict[str, None]] = {}
        self._personas = 0
        self._began = 0.0
        self._wake = asyncio.Event()

    @property
    def run_now(self) -> int | None:
        """The run whose thoughts are wanted now; None while the loop does not run."""
        loop = self._roster.loop
        return loop.run if self._enabled and loop is not None and loop.phase is LoopPhase.RUNNING else None

    @property
    def ticking(self) -> bool:
        """Whether this process ticks."""
        return self.run_now is not None and _BEAT in self._agenda and bool(self._owners)

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
        self._wake.set()

    def enter(self, shard: int) -> None:
        """Begin to tick a shard's personas."""
        members = self._active(shard)
        self._members[shard] = dict.fromkeys(members)
        self._personas += len(members)
        if self.run_now is not None:
            now = self._now()
            self._agenda.add(_BEAT, now)
            self._arm(shard, now)
            self._wake.set()

    def leave(self, shard: int) -> None:
        """Tick a shard's personas no more."""
        self._personas -= len(self._members.pop(shard, ()))
        self._agenda.remove(shard)

    def spawned(self, persona_id: str) -> None:
        """Tick a new persona from its shard's next tick on, where the shard is ours."""
        members = self._members.get(shard_of(persona_id))
        if members is not None and persona_id not in members:
            members[persona_id] = None
            self._personas += 1

    def reaped(self, persona_ids: Iterable[str]) -> None:
        """Tick these no more."""
        for persona_id in persona_ids:
            members = self._members.get(shard_of(persona_id), {})
            if persona_id in members:
                del members[persona_id]
                self._personas -= 1

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
        self.last_tick_at = at = datetime.now(UTC)
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
        self._metrics.skipped.inc(len(members) - len(free))
        if free:
            self._dispatching.begin(owner, run, free, at)

    async def _let_others(self) -> None:
        """Give way to everything else in the process, where ticks have kept it waiting for long."""
        if self._now() - self._began > _YIELD_S:
            await asyncio.sleep(0)
            self._began = self._now()

    def _active(self, shard: int) -> list[str]:
        return [
            persona_id
            for persona_id in self._roster.in_shard(shard)
            if self._roster.personas[persona_id].status is PersonaStatus.ACTIVE
        ]

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

    def _loop(self) -> LoopState:
        assert self._roster.loop is not None
        return self._roster.loop

    def _interval(self) -> float:
        return self._loop().interval_ms / 1000

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
