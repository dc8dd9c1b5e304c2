"""The scheduler's composition and lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime

import msgspec
import structlog

from libs.bus.endpoints import Gate, Request, listening
from libs.bus.loop import MessageLoop
from libs.bus.presence import Peers
from libs.concurrency.tasks import Background
from libs.contracts import subjects
from libs.contracts.journal import Effort, ThoughtEntry
from libs.contracts.limits import SHARDS
from libs.contracts.lives import Spent
from libs.contracts.presence import BootFailure, BootSummary
from libs.contracts.registry import LoopPhase
from libs.contracts.tokens import shard_of
from libs.contracts.work import SchedulerStatus
from libs.journal.position import PublicPosition, watch_position
from libs.journal.tail import Tail
from libs.roster.load import follow, load
from libs.roster.state import Roster
from libs.runtime.process import Process, versions
from services.scheduler.adaptive import AdaptiveTicker
from services.scheduler.admission import Admitting
from services.scheduler.adopting import adopt
from services.scheduler.bank import Bank
from services.scheduler.census import Census
from services.scheduler.changes import Changes
from services.scheduler.dispatches import Age
from services.scheduler.dispatching import Dispatching
from services.scheduler.earshot import Earshot
from services.scheduler.elsewhere import hearing
from services.scheduler.halting import halt_shard
from services.scheduler.handlers import Handlers
from services.scheduler.history import History, read_history
from services.scheduler.idling import IdleClocks
from services.scheduler.inboxes import Inboxes
from services.scheduler.lost_work import Exhausted, LostWork
from services.scheduler.memory import Memory
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.offers import Offers
from services.scheduler.owner import Fenced, ShardOwner
from services.scheduler.posts import Posts
from services.scheduler.rolling_up import RollingUp
from services.scheduler.running import RunningTime
from services.scheduler.serving import served
from services.scheduler.shards import Shards
from services.scheduler.showing import Showing
from services.scheduler.taking import Takes
from services.scheduler.ticker import Ticker
from services.scheduler.ticking import Ticking
from services.scheduler.treasury import Treasury
from services.scheduler.waits import Waits

log = structlog.get_logger("scheduler")

_RESULTS_AT_ONCE = 4096


class Scheduler:
    """The parts of a scheduler, wired together."""

    def __init__(self, process: Process, position: PublicPosition, tasks: asyncio.TaskGroup) -> None:
        self.process = process
        self.bus = process.bus
        self.metrics = SchedulerMetrics(process.metrics.registry)
        process.stages = {"queue wait": self.metrics.queue_wait, "total": self.metrics.total}
        process.outcomes = self.metrics.outcomes
        self.roster = Roster()
        self.peers = Peers(self.bus, "scheduler", process.presence.subject)
        self.position = position
        self.tasks = tasks
        self.running = RunningTime(lambda: self.ticker.run_now is not None)
        self.gate = Gate()
        self.results_gate = Gate(_RESULTS_AT_ONCE)
        self.shards = Shards(
            self.bus,
            self.peers,
            process.settings.instance,
            self._make_owner,
            self._history,
            self._serve,
            self.metrics,
        )
        adaptive = process.cognition.adaptive
        self.posts = Posts(self.bus, process.metrics, lambda before, post: self.offers.changed(before, post))
        self.offers = Offers(self.posts, lambda name, urgent: self.ticker.news(name, urgent), process.boot)
        self.memory = Memory(self.bus, self.roster, lambda name: self.ticker.remembered(name))
        takes = Takes(adaptive=adaptive, answers=self.posts.answers)
        self.dispatching = Dispatching(
            self.bus, self.roster, lambda: self.shards.shared, takes, self.memory, tasks
        )
        self.banks: dict[int, Bank] = {}
        self.treasury = Treasury(self.bus, self.roster, self.banks)
        self.admitting = Admitting(
            self.treasury,
            self.roster,
            self.shards.live,
            self.banks,
            process.cognition.thinker.max_tokens,
            self.metrics,
        )
        self.waits = Waits(self.bus, self.roster, lambda name: self.ticker.news(name, False), tasks)
        parts = self.dispatching, self.roster, self.shards.live, process.cognition.enabled, self.metrics
        self.ticker: Ticking = (
            AdaptiveTicker(
                *parts,
                takes,
                self.admitting,
                IdleClocks(self.bus, self.roster, tasks),
                self.waits,
                self.bus,
                process.boot,
                tasks,
            )
            if adaptive
            else Ticker(*parts)
        )
        self.showing = Showing(self.roster, self.ticker.next_look, self.ticker.waits_for, enforced=adaptive)
        self.inboxes = Inboxes(
            self.bus,
            self.roster,
            lambda: self.registry.sync(),
            self.shards.live,
            self.ticker.news,
            self.offers,
            self.metrics,
            process.metrics,
        )
        self.earshot = Earshot(
            self.bus, self.gate, lambda: any(len(owner.dispatches) for owner in self.shards.live.values())
        )
        self.lost_work = LostWork(
            self.bus, self.shards.live, self.dispatching.publish, self.metrics, tasks, self.earshot
        )
        self.changes = Changes(
            self.roster,
            self.shards,
            self.ticker,
            self.memory,
            self.offers,
            self._halt,
            tasks,
            self.running.turn,
        )
        self.registry = Tail(self.bus, subjects.JOURNAL_REGISTRY, self.changes.fold)
        census = Census(
            self.roster, self.shards.live, lambda: self.shards.wanted, lambda: self.ticker.ticking
        )
        process.metrics.registry.register(census)
        self._clock = asyncio.get_running_loop().time
        self.metrics.behind.set_function(self._lag)
        self.metrics.in_flight.set_function(
            lambda: sum(len(owner.dispatches) for owner in list(self.shards.live.values()))
        )

    async def status(self, _: bytes, __: Request) -> bytes:
        """Say what this scheduler does now."""
        ticked_at = self.ticker.ticked_at
        return msgspec.json.encode(
            SchedulerStatus(
                instance=self.process.settings.instance,
                ticking=self.ticker.ticking,
                run=self.ticker.run_now or 0,
                last_tick_at=self.ticker.last_tick_at or self._journaled_tick(),
                shards=len(self.shards.live),
                lag_ms=round(1000 * self._lag()),
                personas=self.ticker.personas,
                missing=[f"shard {shard}: {why}" for shard, why in sorted(self.shards.unreadable.items())],
                tick_age_ms=None if ticked_at is None else int(1000 * (self._clock() - ticked_at)),
            )
        )

    def _lag(self) -> float:
        """Return the age in seconds of the oldest thought under way."""
        now = self._clock()  # metrics are read by a thread of their own
        begun = [owner.dispatches.oldest() for owner in list(self.shards.live.values())]
        return max((now - at for at in begun if at is not None), default=0.0)

    def _journaled_tick(self) -> datetime | None:
        ticks = [owner.ledger.last_tick_at for owner in self.shards.live.values()]
        return max((at for at in ticks if at is not None), default=None)

    def _make_owner(self, shard: int) -> ShardOwner:
        return ShardOwner(
            self.bus,
            shard,
            self.process.boot,
            self.position,
            self.roster.is_reaped,
            self._stored,
            self.inboxes.settled.set,
            self.running.seconds,
        )

    def _stored(self, thoughts: list[ThoughtEntry], ages: list[Age]) -> None:
        for age in ages:
            self.metrics.settle.observe(age.seconds, age.count)
            self.metrics.total.observe(age.seconds, age.completed)
        for thought in thoughts:
            self.metrics.thought_settled(thought.effort)
            if thought.effort is not None:
                self._lived(thought, thought.effort)
            if self.process.cognition.adaptive:
                self.tasks.create_task(self.admitting.settle(thought), name="settle-credits")
        self.ticker.settled(thoughts)
        last = thoughts[-1]
        self.process.did(f"stored thought {last.thought_count} of {last.persona_id}")

    def _lived(self, thought: ThoughtEntry, effort: Effort) -> None:
        spent = Spent(1, effort.tokens, effort.cpu_ms)
        self.metrics.spent.add(thought.swarm_id, effort.role, spent)
        for item in effort.items:
            self.metrics.inbox_handled.labels(item.outcome).inc()
        owner = self.shards.live.get(shard_of(thought.persona_id))
        if owner is not None and owner.ledger.decisions:
            self.offers.decided(owner)

    @asynccontextmanager
    async def _history(self) -> AsyncIterator[History]:
        """Read the history; the registry's newest records are folded before a shard is taken over."""
        await self.registry.sync()
        fresh = Tail(self.bus, subjects.JOURNAL_REGISTRY, lambda sequence, data: None)
        history = await read_history(self.bus, fresh)
        await self.memory.prime(history.snapshots)
        yield history

    def _rolling_up(self, owner: ShardOwner) -> RollingUp:
        cognition = self.process.cognition
        treasury = self.treasury if cognition.adaptive else None
        return RollingUp(owner, treasury, cognition.thinker.max_tokens, self.metrics)

    async def _halt(self, owner: ShardOwner, run: int) -> None:
        try:
            await halt_shard(self.bus, owner, run, self.metrics)
        except Fenced:
            log.info("halt_left_to_next_owner", shard=owner.shard, run=run)

    @asynccontextmanager
    async def _serve(self, owner: ShardOwner) -> AsyncIterator[None]:
        """Adopt what is queued, then answer for the shard and tick its personas while the context is open.

        First the registry's newest records are folded, as of a time after the shard was claimed: of who was
        reaped before, its last owner may have trimmed the marker behind a checkpoint that does not say so.
        """
        await self.registry.sync()
        await adopt(self.bus, owner, self.ticker.run_now, self.dispatching.queued)
        with self._banking(owner) as bank:
            handlers = Handlers(
                owner,
                lambda: self.ticker.run_now,
                self.lost_work.suspected,
                self.metrics,
                self.ticker.granted,
                self.showing,
                bank,
                self._rolling_up(owner),
                self.earshot.since,
            )
            telemetry = self.process.metrics
            async with (
                served(self.bus, owner.shard, handlers, self.gate, self.results_gate, telemetry),
                self.inboxes.opened(owner),
            ):
                loop = self.roster.loop
                if loop is not None and loop.phase is LoopPhase.STOPPING:
                    self.changes.halt_if_stopping(owner, loop.run)
                self.ticker.enter(owner.shard)
                try:
                    yield
                finally:
                    self.ticker.leave(owner.shard)

    @contextmanager
    def _banking(self, owner: ShardOwner) -> Iterator[Bank]:
        """Ask the shard's accounts here while the context is open, and over the bus from then on."""
        bank = self.banks[owner.shard] = Bank(owner, self.roster)
        try:
            yield bank
        finally:
            del self.banks[owner.shard]


@asynccontextmanager
async def lifespan(process: Process) -> AsyncIterator[None]:
    """Load the roster, take over shards, tick; drain by giving every shard up with its checkpoint stored."""
    async with watch_position(process.bus) as position, Background() as tasks:
        scheduler = Scheduler(process, position, tasks)
        telemetry = process.metrics
        status = MessageLoop("scheduler-status", bytes, scheduler.status, telemetry)
        exhausted = MessageLoop(
            "work-exhausted", msgspec.json.Decoder(Exhausted).decode, scheduler.lost_work.exhausted, telemetry
        )
        await load(process.bus, scheduler.registry, scheduler.roster, telemetry)
        await scheduler.peers.prime()
        for name, work in {
            "peers": scheduler.peers.run(),
            "follow-registry": follow(process.bus, scheduler.registry, telemetry),
            "tick": scheduler.ticker.run(),
            "inboxes": scheduler.inboxes.run(),
            "sweep": scheduler.inboxes.sweep(),
            "posts": scheduler.posts.run(),
            "offers": scheduler.offers.run(),
            "earshot": scheduler.earshot.run(),
            "lost-work": scheduler.lost_work.run(),
            "tidy": scheduler.shards.keep_tidy(scheduler.running.turn),
            "readiness": _say_ready(process, scheduler.shards),
        }.items():
            tasks.create_task(work, name=name)
        owning = tasks.create_task(scheduler.shards.run(), name="shards")
        async with (
            scheduler.results_gate,
            scheduler.gate,
            hearing(process.bus, scheduler.ticker.others_wait),
            listening(process.bus, subjects.SCHEDULER_STATUS, status, scheduler.gate),
            listening(process.bus, subjects.WORK_EXHAUSTED, exhausted, scheduler.gate),
        ):
            with process.bus.on_reconnect(scheduler.waits.reconnected):
                await scheduler.shards.complete.wait()
                process.set_ready(_summary(scheduler.shards))
                yield
            scheduler.shards.close()
            await asyncio.wait([owning])


async def _say_ready(process: Process, shards: Shards) -> None:
    """Keep readiness true: ready while every shard that falls to this process is taken over.

    Shards that nobody can take over keep it from nothing else; they are failures of its summary [H3].
    """
    await shards.complete.wait()
    while True:
        await shards.looked.wait()
        shards.looked.clear()
        if process.leaving:
            return
        if shards.complete.is_set():
            summary = _summary(shards)
            if summary != process.summary:
                process.summary = summary
                process.presence.changed()
            process.set_ready()
        else:
            missing = SHARDS - len(shards.live)
            process.set_not_ready(f"taking over shards, {missing} are not ours yet")


def _summary(shards: Shards) -> BootSummary:
    return BootSummary(
        service="scheduler",
        hosted=len(shards.live),
        failures=[
            BootFailure(slot_index=shard, role="shard", persona_id=None, reason=why)
            for shard, why in sorted(shards.unreadable.items())
        ],
        versions=versions("nats-py", "msgspec"),
    )
