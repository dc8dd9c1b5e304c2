"""The `adaptive` cadence: a persona looks at times of its own, and thinks when it has reason to [A10–A14].

A look costs nothing. A persona that is due and has reason to think waits in `Turns`; once it may, its thought
goes into the queue, which is kept short. Who has nothing new rests.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from time import time

from libs.bus.connection import Bus
from libs.concurrency.waiting import set_within
from libs.contracts.journal import ThoughtEntry
from libs.contracts.limits import CHUNK_PERSONAS, SHARDS
from libs.contracts.tokens import shard_of
from libs.contracts.work import Waiting
from libs.roster.state import Roster
from services.scheduler.admission import Admitting
from services.scheduler.agenda import spread
from services.scheduler.cadence import wait
from services.scheduler.dispatching import Dispatching, in_chunks
from services.scheduler.idling import IdleClocks
from services.scheduler.inner_state import Mood
from services.scheduler.ledger import PersonaLedger
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner
from services.scheduler.priority import URGENT
from services.scheduler.ready import NEVER
from services.scheduler.rhythm import SLOTS_AN_INTERVAL, Rhythm
from services.scheduler.taking import Takes
from services.scheduler.ticking import Ticking
from services.scheduler.turns import Turns
from services.scheduler.waits import Waits

CYCLE = 4
"""Thoughts of a cycle: who has begun one ends it."""

_TURN_MOST_S = 0.25
"""While somebody waits for its turn it looks so often at least who may have one."""

_SLEEP_MOST_S = 1.0
"""While the loop runs, it turns so often at least: `last_tick_at` says so."""

_LATER_S = 1.0
_YIELD_EVERY = 64


class Pulse:
    """When a persona was last due, and what makes it look again."""

    __slots__ = ("at", "began_at", "echo", "idle_cycles", "news")

    def __init__(self) -> None:
        self.at = 0.0
        self.began_at = NEVER
        """When its last thought began, by the loop's clock, as far as that was in this process."""

        self.idle_cycles = 0
        self.news = False
        """Something in its shared memory, or a persona that it waits for, is new."""

        self.echo = False
        """The cycle that it is in is about nothing but what others share: that wakes nobody else."""


class AdaptiveTicker(Ticking):
    """Begins the thoughts of personas that have reason to think.

    `wall` is a clock of wall time in seconds; the monotonic one is the event loop's.
    """

    def __init__(
        self,
        dispatching: Dispatching,
        roster: Roster,
        owners: Mapping[int, ShardOwner],
        enabled: bool,
        metrics: SchedulerMetrics,
        takes: Takes,
        admitting: Admitting,
        idle: IdleClocks,
        waits: Waits,
        bus: Bus,
        boot: str,
        tasks: asyncio.TaskGroup,
        wall: Callable[[], float] = time,
    ) -> None:
        super().__init__(roster, owners, enabled)
        self._wall = wall
        self._dispatching = dispatching
        self._metrics = metrics
        self._takes = takes
        self._admitting = admitting
        self._idle = idle
        self._waits = waits
        self._rhythm = Rhythm(1.0)
        self._turns = Turns(bus, boot, owners, takes, admitting, self._decided, tasks)
        self._pulses: dict[str, Pulse] = {}

    def loop_changed(self) -> None:
        """Begin, end or pace the looks as the roster now says. Everybody is due at once on a start."""
        if self.run_now is None:
            self._rhythm.clear()
            self._turns.clear()
            self._pulses.clear()
        else:
            self._rhythm.pace(self._interval())
            self._rhythm.hasten(self._now() + self._interval())
            for shard in self._members:
                self._arm(shard)
        super().loop_changed()

    def enter(self, shard: int) -> None:
        """Begin to look after a shard's personas."""
        super().enter(shard)
        self._owners[shard].dispatches.given_up = self._look_later
        for persona_id in self._members[shard]:
            self._waits.resume(self._owners[shard], persona_id)
        if self.run_now is not None:
            self._arm(shard)
            self._wake.set()

    def leave(self, shard: int) -> None:
        """Look after a shard's personas no more."""
        self._forget(self._members.get(shard, ()))
        super().leave(shard)

    def spawned(self, persona_id: str) -> bool:
        """Look after a new persona, which is due at once."""
        new = super().spawned(persona_id)
        if new:
            self._waits.set(persona_id)
        if new and self.run_now is not None:
            self._set(persona_id, self._now())
            self._wake.set()
        return new

    def reaped(self, persona_ids: Iterable[str]) -> None:
        """Look after these no more."""
        persona_ids = list(persona_ids)
        self._forget(persona_ids)
        super().reaped(persona_ids)

    def waits_changed(self, persona_id: str) -> None:
        """Have a persona wait for those whom its record now names."""
        if persona_id in self._members.get(shard_of(persona_id), ()):
            self._waits.set(persona_id)
            self.news(persona_id, urgent=False)

    def news(self, persona_id: str, urgent: bool) -> None:
        """Wake a persona that rests, or for which something urgent came [A11, A12]."""
        pulse = self._pulses.get(persona_id)
        if pulse is None or self.run_now is None:
            return None
        if persona_id in self._turns:
            return self._turns.add(persona_id, urgent, pulse.began_at)
        if urgent or pulse.idle_cycles:
            pulse.idle_cycles = 0
            self._look(persona_id, self._now())
            self._wake.set()
        return None

    def remembered(self, persona_id: str) -> None:
        """Note that a persona's shared memory has something new, or that one it waits for has thought."""
        if (pulse := self._pulses.get(persona_id)) is not None:
            pulse.news = True
            self.news(persona_id, urgent=False)

    def settled(self, thoughts: list[ThoughtEntry]) -> None:
        """Give personas whose thought is stored their next look."""
        for thought in thoughts:
            self._next_look(thought.persona_id)
        self._wake.set()

    def granted(self, waited: float) -> None:
        """Keep the queue as short as its wait calls for."""
        self._turns.granted(waited)
        self._wake.set()

    def others_wait(self, said: Waiting) -> None:
        """Note how long somebody waits for its turn in another scheduler [A14]."""
        if self._turns.heard(said):
            self._wake.set()

    def next_look(self, persona_id: str) -> datetime | None:
        """Return when a persona looks next; None while it thinks or waits for its turn."""
        due = self._rhythm.due_of(persona_id)
        return None if due is None else datetime.fromtimestamp(self._wall() + due - self._now(), UTC)

    def waits_for(self, persona_id: str) -> list[str]:
        """Return whom a persona waits for before it thinks again."""
        return self._waits.unfinished(persona_id)

    async def run(self) -> None:
        """Look after personas until cancelled."""
        while True:
            self._wake.clear()
            if self.run_now is not None:
                self.note_tick(self._date())
                await self._take_due()
                self._turns.take(self.run_now, self._interval())
                await self._turns.announce(self._interval())
            await set_within(self._wake, self._pause())

    def _date(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)

    def _pause(self) -> float:
        """Return for how long nothing is to be done, in seconds."""
        if self.run_now is None:
            return _LATER_S
        most = _SLEEP_MOST_S if self._turns.idle else _TURN_MOST_S
        due = self._rhythm.next_due()
        return most if due is None else min(max(due - self._now(), 0.0), most)

    async def _take_due(self) -> None:
        looks = 0
        for due in self._rhythm.take_due(self._now()):
            self._metrics.lag.observe(max(self._now() - due.at, 0.0))
            for persona_id in due.persona_ids:
                self._look(persona_id, due.at)
                looks += 1
                if looks % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)

    def _look(self, persona_id: str, at: float) -> None:
        """Have a persona look whether it has reason to think: it waits for its turn, or rests."""
        shard, pulse = shard_of(persona_id), self._pulses.get(persona_id)
        owner = self._owners.get(shard)
        if pulse is None or owner is None or self._turns.asking(persona_id):
            return None
        if owner.dispatches.in_flight(persona_id):
            return None
        pulse.at = at
        entry = owner.ledger.persona(persona_id)
        self._metrics.looks.inc()
        self._idle.look(persona_id, owner.ledger)
        if (until := self._admitting.pause_of(persona_id, entry)) is not None:
            return self._set(persona_id, self._now() + max(until - self._wall(), _TURN_MOST_S))
        self._waits.look(owner, persona_id, self._interval())
        if self._has_reason(persona_id, entry, pulse):
            self._rhythm.remove(persona_id)
            urgent = entry.inbox is not None and (entry.inbox.highest_base(self._now()) or 0) > URGENT
            return self._turns.add(persona_id, urgent, pulse.began_at)
        pulse.idle_cycles = 0 if entry.inbox else pulse.idle_cycles + 1
        rest = self._wait(persona_id, entry, pulse)
        return self._set(persona_id, at + rest, rest / SLOTS_AN_INTERVAL if pulse.idle_cycles else 0.0)

    def _has_reason(self, persona_id: str, entry: PersonaLedger, pulse: Pulse) -> bool:
        """Whether anything is new: an item, its memory, or a cycle that it has begun and not ended [A11].

        Who waits for others thinks about items alone, until those have thought: that is new too [A15].
        """
        if self._takes.has_any(entry):
            return True
        if self._waits.unfinished(persona_id):
            return False
        unended = entry.count == 0 or entry.count % CYCLE != 0
        return unended or pulse.news or self._waits.complete(persona_id)

    def _wait(self, persona_id: str, entry: PersonaLedger, pulse: Pulse) -> float:
        life = entry.life
        mood = life.state.mood(len(entry.inbox or ()), self._wall()) if life is not None else Mood.IDLE
        failures = life.failures if life is not None else 0
        share = self._admitting.share_left(persona_id)
        return wait(mood, self._interval(), share, failures, pulse.idle_cycles, self._turns.load)

    def _next_look(self, persona_id: str) -> None:
        pulse, owner = self._pulses.get(persona_id), self._owners.get(shard_of(persona_id))
        if pulse is None or owner is None or self.run_now is None:
            return None
        entry, now = owner.ledger.persona(persona_id), self._now()
        if entry.inbox and (entry.inbox.highest_base(now) or 0) > URGENT:
            return self._look_after_settling(persona_id, now)
        return self._set(persona_id, max(pulse.at + self._wait(persona_id, entry, pulse), now))

    def _look_after_settling(self, persona_id: str, now: float) -> None:
        """Have a persona look again at once: its own thought is forgotten only after this."""
        self._set(persona_id, now)

    def _decided(self, run: int | None, asked: list[str], admitted: list[str]) -> None:
        """Begin the thoughts of those who may think; the others for whom was asked look again.

        So does everybody whose run has ended meanwhile while another one is on: its first look found that its
        credits were being asked for. What was reserved is for the same thought in this run.
        """
        if run is None or run != self.run_now:
            return self._look_later(asked)
        may = set(admitted)
        self._look_later([name for name in asked if name not in may])
        by_shard: dict[int, list[str]] = defaultdict(list)
        for persona_id in admitted:
            by_shard[shard_of(persona_id)].append(persona_id)
        for shard, names in by_shard.items():
            self._begin(shard, run, names)
        return self._wake.set()

    def _begin(self, shard: int, run: int, names: list[str]) -> None:
        owner, members = self._owners.get(shard), self._members.get(shard, {})
        if owner is None or owner.is_halted(run):
            return
        free = [n for n in names if n in members and not owner.dispatches.in_flight(n)]
        echoes = {name for name in free if self._begins_echo(name, owner.ledger.persona(name))}
        for some in in_chunks(free):
            self._dispatching.begin(owner, run, some, self._date(), echoes)

    def _begins_echo(self, persona_id: str, entry: PersonaLedger) -> bool:
        """Note that a persona begins a thought; whether its cycle is about nothing but what others share."""
        pulse = self._pulses[persona_id]
        if entry.count == 0 or self._takes.has_any(entry) or self._waits.complete(persona_id):
            pulse.echo = False
        elif entry.count % CYCLE == 0:
            pulse.echo = True
        pulse.began_at = self._now()
        pulse.news = False
        pulse.idle_cycles = 0
        self._waits.began(persona_id)
        return pulse.echo

    def _look_later(self, persona_ids: Iterable[str]) -> None:
        """Have those of these look again who are looked after still: nothing else would have them.

        While the loop is stopped that is nobody.
        """
        for persona_id in persona_ids:
            if persona_id in self._pulses:
                self._set(persona_id, self._now() + _LATER_S)

    def _arm(self, shard: int) -> None:
        """Have a shard's personas look for the first time: at once, but not all in one moment."""
        members = self._members.get(shard, {})
        begin = self._now() + spread(self._personas, self._interval()) * shard / SHARDS
        for index, persona_id in enumerate(members):
            if persona_id not in self._rhythm:
                self._set(persona_id, begin + index // CHUNK_PERSONAS * 0.001)

    def _set(self, persona_id: str, due: float, slack: float = 0.0) -> None:
        self._pulses.setdefault(persona_id, Pulse())
        self._rhythm.set(persona_id, shard_of(persona_id), due, slack)

    def _forget(self, persona_ids: Iterable[str]) -> None:
        for persona_id in persona_ids:
            self._pulses.pop(persona_id, None)
            self._rhythm.remove(persona_id)
            self._turns.remove(persona_id)
            self._waits.forget(persona_id)
