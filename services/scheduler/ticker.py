"""Ticking: who is due gets a work item with its context frozen, and the items go to the queue in chunks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

import msgspec
import structlog

from libs.bus.connection import Bus
from libs.bus.errors import OutcomeUnknown, PublishRefused
from libs.bus.patience import Patience
from libs.cognition.context import Recent
from libs.concurrency.waiting import set_within
from libs.contracts import subjects
from libs.contracts.limits import CHUNK_PERSONAS, SHARDS
from libs.contracts.personas import PersonaIdentity, PersonaStatus
from libs.contracts.registry import LoopPhase, LoopState
from libs.contracts.tokens import shard_of
from libs.contracts.work import Chunk, Ticket, WorkItem
from libs.roster.state import Roster
from services.scheduler.agenda import Agenda, first_tick, spread
from services.scheduler.dispatches import Dispatch
from services.scheduler.due import Due
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner

log = structlog.get_logger("ticker")

_encode = msgspec.json.Encoder().encode

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
        self._agenda = Agenda()
        self._members: dict[int, dict[str, None]] = {}
        self._personas = 0
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

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Tick until cancelled; chunks are published by tasks of the group."""
        while True:
            self._wake.clear()
            due = self._agenda.next_due()
            now = self._now()
            if due is None or due > now + _EARLY_S:
                await set_within(self._wake, None if due is None else due - now - _EARLY_S / 2)
                continue
            for shard, since in self._agenda.take_due(now + _EARLY_S, self._interval(), self._lag):
                self._tick(shard, since, tasks)
                if self._now() - now > _YIELD_S:
                    await asyncio.sleep(0)
                    now = self._now()

    def _tick(self, shard: int, since: float, tasks: asyncio.TaskGroup) -> None:
        run = self.run_now
        if run is None:
            return
        self.last_tick_at = at = datetime.now(UTC)
        owner = self._owners.get(shard)
        if owner is None or owner.is_halted(run):
            return
        now = self._now()
        self._metrics.lag.observe(max(now - since, 0.0))
        for dues in batched(self._due(owner, at), CHUNK_PERSONAS):
            dispatch = owner.dispatches.begin(chunk_of(shard, run, dues), dues, now)
            tasks.create_task(self.publish(owner, dispatch))

    def _due(self, owner: ShardOwner, at: datetime) -> list[Due]:
        """Return what is to be thought; a persona whose last thought is under way skips its tick [3.2]."""
        members = self._members[owner.shard]
        free = [persona_id for persona_id in members if not owner.dispatches.in_flight(persona_id)]
        self._metrics.skipped.inc(len(members) - len(free))
        return [self._next(self._roster.personas[name].identity, owner, at) for name in free]

    def queued(self, ticket: Ticket, owner: ShardOwner) -> Due | None:
        """Return the thought that a ticket in the queue names, where it is of a persona that there is."""
        record = self._roster.personas.get(ticket.persona_id)
        return self._next(record.identity, owner, ticket.tick_at) if record is not None else None

    def _next(self, identity: PersonaIdentity, owner: ShardOwner, at: datetime) -> Due:
        """Return a persona's next thought, its context frozen now."""
        persona_id, ledger = identity.id, owner.ledger
        entry = ledger.persona(persona_id)
        entry.last_tick_at = at
        context = ledger.context(persona_id, self._shared())
        bare = WorkItem(
            persona_id,
            identity.name,
            identity.role,
            "",
            identity.swarm_id,
            entry.count + 1,
            at,
            [],
            len(context),
        )
        return Due(bare, identity.charter, context)

    async def publish(self, owner: ShardOwner, dispatch: Dispatch) -> None:
        """Put a chunk into the work queue. A copy that a repeated publish leaves is never granted."""
        data = _encode(dispatch.chunk)
        with Patience(self._bus, f"publishing work of shard {owner.shard}") as patience:
            while dispatch.waiting:
                try:
                    sequence = await self._bus.publish(subjects.think(owner.shard), data)
                except OutcomeUnknown as error:
                    await patience.pause(error)
                except PublishRefused as error:
                    log.warning("work_refused", shard=owner.shard, error=str(error))
                    owner.dispatches.drop(dispatch)
                else:
                    if dispatch.granted_to is None:
                        dispatch.sequence = sequence
                    return

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


def chunk_of(shard: int, run: int, dues: Iterable[Due], *, alone: bool = False) -> Chunk:
    """Return thoughts as a message of the work queue."""
    tickets = [due.ticket() for due in dues]
    return Chunk(id=secrets.token_hex(8), shard=shard, run=run, items=tickets, alone=alone)


def batched(dues: list[Due], most: int) -> list[list[Due]]:
    """Return thoughts in lists of so many at most, in order."""
    return [dues[begin : begin + most] for begin in range(0, len(dues), most)]
