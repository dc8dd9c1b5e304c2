"""Ticking: who is due gets a work item with its context frozen, and the items go to the queue in chunks."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

import msgspec
import structlog

from libs.bus.connection import Bus
from libs.bus.errors import OutcomeUnknown, PublishRefused
from libs.cognition.context import Recent
from libs.concurrency.waiting import set_within
from libs.contracts import subjects
from libs.contracts.limits import CHUNK_PERSONAS, RECORD_BYTES
from libs.contracts.personas import PersonaStatus
from libs.contracts.registry import LoopPhase, LoopState
from libs.contracts.tokens import shard_of
from libs.contracts.work import Chunk, WorkItem
from libs.roster.state import Roster
from services.scheduler.agenda import Agenda
from services.scheduler.dispatches import Dispatch
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner

log = structlog.get_logger("ticker")

_encode = msgspec.json.Encoder().encode

_BEAT = ""
"""Stands in the agenda for the loop itself: `last_tick_at` advances with no persona at all [3.4]."""

_TAKEN_AT_ONCE = 512
_PUBLISH_RETRY_S = 0.1
_FULL_RETRY_S = 1.0


class Ticker:
    """Ticks the active personas of the shards that this process owns, while the loop runs."""

    def __init__(
        self,
        bus: Bus,
        roster: Roster,
        owners: Mapping[int, ShardOwner],
        shared: Callable[[], Recent],
        enabled: bool,
        metrics: SchedulerMetrics,
    ) -> None:
        self.last_tick_at: datetime | None = None
        self._bus = bus
        self._roster = roster
        self._owners = owners
        self._shared = shared
        self._enabled = enabled
        self._metrics = metrics
        self._agenda = Agenda(1.0)
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
            self._agenda.set_interval(self._interval(), now)
            if _BEAT not in self._agenda:
                self._agenda.add(_BEAT, now)
                for shard in self._owners:
                    self.enter(shard)
        self._wake.set()

    def enter(self, shard: int) -> None:
        """Begin to tick a shard's personas, each when its interval since its last tick is over."""
        if self.run_now is None:
            return
        self._agenda.add(_BEAT, self._now())
        ledger = self._owners[shard].ledger
        for persona_id in self._roster_of(shard):
            self._agenda.add(persona_id, self._resume(ledger.persona(persona_id).last_tick_at))
        self._wake.set()

    def leave(self, shard: int) -> None:
        """Tick a shard's personas no more."""
        self._agenda.remove(self._roster_of(shard))

    def spawned(self, persona_id: str) -> None:
        """Tick a new persona at once, where its shard is ours."""
        if self.run_now is not None and shard_of(persona_id) in self._owners:
            self._agenda.add(persona_id, self._now())
            self._wake.set()

    def reaped(self, persona_ids: Iterable[str]) -> None:
        """Tick these no more."""
        self._agenda.remove(persona_ids)

    def again(self, persona_ids: Iterable[str], after: float = 0.0) -> None:
        """Tick these soon: what was begun for them came to nothing."""
        due = self._now() + after
        for persona_id in persona_ids:
            self._agenda.again(persona_id, due)
        self._wake.set()

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Tick until cancelled; chunks are published by tasks of the group."""
        while True:
            self._wake.clear()
            due = self._agenda.next_due()
            now = self._now()
            if due is not None and due <= now:
                for owner, chunk, data in self._tick(self._agenda.take_due(now, _TAKEN_AT_ONCE), now):
                    tasks.create_task(self._publish(owner, owner.dispatches.begin(chunk, now), data))
                await asyncio.sleep(0)
                continue
            await set_within(self._wake, None if due is None else due - now)

    def _tick(self, due: list[tuple[str, float]], now: float) -> list[tuple[ShardOwner, Chunk, bytes]]:
        run = self.run_now
        if run is None:
            return []
        self.last_tick_at = at = datetime.now(UTC)
        items: dict[int, list[WorkItem]] = defaultdict(list)
        for persona_id, since in due:
            shard = shard_of(persona_id)
            owner = self._owners.get(shard)
            if persona_id == _BEAT or owner is None or owner.is_halted(run):
                continue
            if owner.dispatches.in_flight(persona_id):
                self._metrics.skipped.inc()
                continue
            self._metrics.lag.observe(now - since)
            items[shard].append(self._item(persona_id, owner, at))
        return [
            (self._owners[shard], chunk, data)
            for shard, wanted in items.items()
            for chunk, data in pack(shard, run, wanted)
        ]

    def _item(self, persona_id: str, owner: ShardOwner, at: datetime) -> WorkItem:
        identity = self._roster.personas[persona_id].identity
        ledger = owner.ledger
        entry = ledger.persona(persona_id)
        entry.last_tick_at = at
        return WorkItem(
            persona_id,
            identity.name,
            identity.role,
            identity.charter,
            identity.swarm_id,
            entry.count + 1,
            at,
            ledger.context(persona_id, self._shared()),
        )

    async def _publish(self, owner: ShardOwner, dispatch: Dispatch, data: bytes) -> None:
        """Put a chunk into the work queue. A copy that a repeated publish leaves is never granted."""
        while dispatch.waiting:
            try:
                sequence = await self._bus.publish(subjects.think(owner.shard), data)
            except OutcomeUnknown:
                await asyncio.sleep(_PUBLISH_RETRY_S)
            except PublishRefused as error:
                log.warning("work_refused", shard=owner.shard, error=str(error))
                self.again(owner.dispatches.drop(dispatch), _FULL_RETRY_S)
            else:
                if dispatch.granted_to is None:
                    dispatch.sequence = sequence
                return

    def _roster_of(self, shard: int) -> list[str]:
        return [
            persona_id
            for persona_id in self._roster.in_shard(shard)
            if self._roster.personas[persona_id].status is PersonaStatus.ACTIVE
        ]

    def _resume(self, last_tick_at: datetime | None) -> float:
        loop = self._loop()
        now = self._now()
        if last_tick_at is None or loop.started_at is None or last_tick_at < loop.started_at:
            return now
        since = (datetime.now(UTC) - last_tick_at).total_seconds()
        return now + min(max(self._interval() - since, 0.0), self._interval())

    def _loop(self) -> LoopState:
        assert self._roster.loop is not None
        return self._roster.loop

    def _interval(self) -> float:
        return self._loop().interval_ms / 1000

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def pack(shard: int, run: int, items: list[WorkItem]) -> list[tuple[Chunk, bytes]]:
    """Return the items in chunks within their bounds, each with its final bytes."""
    packed: list[tuple[Chunk, bytes]] = []
    for begin in range(0, len(items), CHUNK_PERSONAS):
        taken = items[begin : begin + CHUNK_PERSONAS]
        chunk = Chunk(id=secrets.token_hex(8), shard=shard, run=run, items=taken)
        data = _encode(chunk)
        if len(data) <= RECORD_BYTES or len(taken) == 1:
            packed.append((chunk, data))
            continue
        middle = len(taken) // 2
        packed += pack(shard, run, taken[:middle]) + pack(shard, run, taken[middle:])
    return packed
