"""The scheduler's parts wired as `services/scheduler/service.py` wires them, over doubles of the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import msgspec
from prometheus_client import CollectorRegistry

from bench.simulation.clock import BEGIN, run, wall
from bench.simulation.day import Sent, day
from bench.simulation.doubles import MemoryInboxes, MemoryOwner, MemoryPosts, Registry, ToThinkers
from bench.simulation.options import Options
from bench.simulation.people import name_of, people
from bench.simulation.record import Minute, Record
from bench.simulation.thinkers import Thinkers
from bench.swarms import percentile
from libs.bus.telemetry import NoTelemetry
from libs.cognition.context import Recent
from libs.concurrency.tasks import Background
from libs.contracts import subjects
from libs.contracts.accounts import Credits
from libs.contracts.inbox import InboxItem, Post, copy_id
from libs.contracts.journal import Spawned, Started, ThoughtEntry
from libs.contracts.limits import SHARDS
from libs.contracts.thoughts import EventType
from libs.contracts.tokens import shard_of
from libs.roster.state import Roster
from services.scheduler import inner_state
from services.scheduler.adaptive import AdaptiveTicker
from services.scheduler.admission import Admitting
from services.scheduler.bank import Bank, limits_of
from services.scheduler.changes import Changes
from services.scheduler.dispatches import Age
from services.scheduler.idling import IdleClocks
from services.scheduler.inner_state import Mood
from services.scheduler.mailbox import Arrival
from services.scheduler.memory import Memory
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.offers import Offers
from services.scheduler.owner import ShardOwner
from services.scheduler.shards import Shards
from services.scheduler.taking import Takes
from services.scheduler.treasury import Treasury
from services.scheduler.waits import Waits

_MINUTE_S = 60.0
_SNAPSHOT_S = 0.2
"""From a thought's record to its snapshot at whoever listens."""

_RUN = 1
_encode = msgspec.json.Encoder().encode


def simulate(options: Options, passed: Callable[[float], None] = lambda seconds: None) -> World:
    """Let a day pass; return the world as it is then. `passed` is told each simulated minute that has."""
    return run(_simulate(options, passed))


async def _simulate(options: Options, passed: Callable[[float], None]) -> World:
    began = time.perf_counter()
    async with Background() as tasks:
        world = World(options, tasks, passed)
        await world.begin()
        tasks.create_task(world.feed(), name="feed")
        tasks.create_task(world.watch(), name="watch")
        tasks.create_task(world.ticker.run(), name="tick")
        await asyncio.sleep(options.seconds)
        world.look()
        world.took_s = time.perf_counter() - began
        world.record.minutes.pop()
        return world


class Ticker(AdaptiveTicker):
    """The scheduler's, with what it knows of rests and load to be seen."""

    @property
    def resting(self) -> int:
        """How many personas rest: their last look, at least, found nothing new."""
        return sum(pulse.idle_cycles > 0 for pulse in self._pulses.values())

    @property
    def load(self) -> float:
        """By how much everybody's waits are stretched."""
        return self._turns.load

    @property
    def ready(self) -> int:
        """How many wait for their turn."""
        return len(self._turns)


class _Shards:
    """All of them, owned for good."""

    def __init__(self, live: dict[int, MemoryOwner]) -> None:
        self.live = live

    def owner_of(self, persona_id: str) -> MemoryOwner:
        """Return the owner of a persona's shard."""
        return self.live[shard_of(persona_id)]


class _Message:
    def __init__(self, data: bytes) -> None:
        self.data = data


class World:
    """A swarm, its scheduler, its thinkers, and what is seen of them."""

    def __init__(self, options: Options, tasks: Background, passed: Callable[[float], None]) -> None:
        self.options = options
        self._passed = passed
        self.record = Record()
        self.took_s = 0.0
        self.clock = asyncio.get_running_loop().time
        self.roster = Roster()
        self.registry = Registry()
        self._tasks = tasks
        self._sequence = 0
        bus, metrics = self.registry.as_bus, SchedulerMetrics(CollectorRegistry())
        self.metrics = metrics
        make = self._make_owner
        self.owners = {shard: make(shard) for shard in range(SHARDS)}
        owners = cast("dict[int, ShardOwner]", self.owners)
        banks = {shard: Bank(owner, self.roster, wall) for shard, owner in self.owners.items()}
        self.posts = MemoryPosts(bus, lambda before, post: self.offers.changed(before, post))
        self.offers = Offers(self.posts, lambda name, urgent: self.ticker.news(name, urgent), "simulation")
        self.memory = Memory(bus, self.roster, lambda name: self.ticker.remembered(name))
        takes = Takes(adaptive=True, answers=self.posts.answers, clock=self.clock, wall=wall)
        self.dispatching = dispatching = ToThinkers(bus, self.roster, Recent, takes, self.memory, tasks)
        treasury = Treasury(bus, self.roster, banks)
        max_tokens = 256
        self.admitting = Admitting(treasury, self.roster, owners, banks, max_tokens, metrics, wall)
        idle = IdleClocks(bus, self.roster, tasks)
        waits = Waits(bus, self.roster, lambda name: self.ticker.news(name, False), tasks)
        self.ticker = Ticker(
            dispatching,
            self.roster,
            owners,
            True,
            metrics,
            takes,
            self.admitting,
            idle,
            waits,
            bus,
            "simulation",
            tasks,
            wall,
        )
        self.inboxes = MemoryInboxes(
            bus, self.roster, _in_step, owners, self.ticker.news, self.offers, metrics, NoTelemetry()
        )
        self.thinkers = Thinkers(options, lambda: self.ticker.run_now)
        self.thinkers.owners, self.thinkers.granted = self.owners, self.ticker.granted
        dispatching.queue = self.thinkers.queue
        shards = cast("Shards", _Shards(self.owners))
        changes = Changes(self.roster, shards, self.ticker, self.memory, self.offers, _no_halt, tasks)
        self.registry.fold = changes.fold

    def _make_owner(self, shard: int) -> MemoryOwner:
        return MemoryOwner(
            self.registry.as_bus,
            shard,
            self.roster.is_reaped,
            self._stored,
            self.clock,
            self.record.journaled,
        )

    async def begin(self) -> None:
        """Make everybody, and start the loop."""
        self._tasks.create_task(self.offers.run(), name="offers")
        for shard, owner in self.owners.items():
            self.inboxes.open(owner, self._tasks, self.record.came)
            self.ticker.enter(shard)
        at = datetime.fromtimestamp(BEGIN, UTC)
        self.registry.record(*(Spawned(persona) for persona in people(self.options, at)))
        await self.memory.prime([])
        self.registry.record(Started(_RUN, self.options.interval_ms, at))

    async def feed(self) -> None:
        """Send what is sent on this day."""
        for sent in day(self.options):
            await asyncio.sleep(max(sent.at - self.clock(), 0.0))
            if sent.post:
                self._post(sent)
            else:
                self._send(sent, name_of(sent.to), f"i-{self._sequence + 1}")

    async def watch(self) -> None:
        """Look at everybody once a minute, half-way: at its end everybody has credits again."""
        await asyncio.sleep(_MINUTE_S / 2)
        while True:
            await asyncio.sleep(_MINUTE_S)
            self.look()
            self._passed(self.clock())

    def look(self) -> None:
        """Note how everybody fares, and begin a minute."""
        minute, energies, now = self.record.minutes[-1], [], wall()
        long_ago = now - max(inner_state.WINDOW_S, inner_state.REST_S)
        for owner in self.owners.values():
            for name, entry in owner.ledger.entries():
                if (life := entry.life) is None or self.roster.is_reaped(name):
                    continue
                held = len(entry.inbox or ())
                minute.held += held
                minute.paused += life.pause is not None and self.admitting.pause_of(name, entry) is not None
                if not held and life.state.last_activity < long_ago:
                    energies.append(1.0)
                    minute.mood[Mood.IDLE] += 1
                else:
                    energies.append(life.state.energy_at(now))
                    minute.mood[life.state.mood(held, now)] += 1
        if energies:
            minute.energy = [percentile(energies, part) for part in (0.0, 0.05, 0.25, 0.5)]
        minute.resting, minute.load, minute.ready = self.ticker.resting, self.ticker.load, self.ticker.ready
        self.record.minutes.append(Minute())

    def limits(self) -> dict[str, Credits]:
        """Return everybody's credits of a minute."""
        return {name: limits_of(self.roster, name) for name in self.roster.personas}

    def childless(self) -> set[str]:
        """Return those whose credits nobody else spends."""
        return {name for name in self.roster.personas if not self.roster.children.get(name)}

    def locked_out(self) -> int:
        """Return how many are paused because one thought is expected to cost more than a whole minute has."""
        lives = [entry.life for owner in self.owners.values() for _, entry in owner.ledger.entries()]
        return sum(
            life is not None and life.pause is not None and life.pause.resumes_at is None for life in lives
        )

    def held(self) -> set[int]:
        """Return what inboxes hold, by the items' sequences."""
        entries = [entry for owner in self.owners.values() for _, entry in owner.ledger.entries()]
        return {held.sequence for entry in entries for held in entry.inbox or ()}

    def _stored(self, thoughts: list[ThoughtEntry], ages: list[Age]) -> None:
        """Do with thoughts that are stored what `Scheduler` does."""
        for thought in thoughts:
            self.record.stored(thought, wall())
            self._tasks.create_task(self.admitting.settle(thought), name="settle-credits")
            if (effort := thought.effort) is None:
                continue
            owner = self.owners[shard_of(thought.persona_id)]
            if owner.ledger.decisions:
                self.offers.decided(cast("ShardOwner", owner))
            kind, event = thought.events[0]
            if effort.shares and kind == EventType.SNAPSHOT_COMPRESSED:
                self._tasks.create_task(self._snapshot(bytes(event)), name="snapshot")
        self.ticker.settled(thoughts)

    async def _snapshot(self, event: bytes) -> None:
        await asyncio.sleep(_SNAPSHOT_S)
        await self.memory._receive(cast("Any", _Message(event)))

    def _send(self, sent: Sent, persona_id: str, item_id: str, post_id: str | None = None) -> None:
        self._sequence += 1
        self.record.sent += 1
        if post_id is not None:
            self.record.posted.add(self._sequence)
        shard, at = shard_of(persona_id), wall()
        item = InboxItem(
            id=item_id,
            persona_id=persona_id,
            content=f"@{persona_id} {sent.content}" if sent.mentions else sent.content,
            source_id=sent.source,
            timestamp=datetime.fromtimestamp(at, UTC),
            priority=sent.priority,
            post_id=post_id,
        )
        message = Arrival(subjects.inbox(shard, persona_id), self._sequence, _encode(item), at)
        self.inboxes.offer(shard, message)

    def _post(self, sent: Sent) -> None:
        post_id = str(UUID(int=self._sequence + 1))
        self.posts.put(Post(id=post_id, answers_most=2))
        for number in range(sent.to * self.options.swarm, (sent.to + 1) * self.options.swarm):
            if number < self.options.personas:
                self._send(sent, name_of(number), copy_id(post_id, name_of(number)), post_id)


async def _no_halt(owner: ShardOwner, number: int) -> None:
    raise AssertionError("nobody stops the loop")


async def _in_step() -> None:
    """The roster is the registry's own."""
