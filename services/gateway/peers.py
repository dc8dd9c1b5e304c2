"""What the gateway asks the other services for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import asdict

from libs.bus.connection import Bus
from libs.bus.presence import Peers, list_present
from libs.bus.read import stream_state
from libs.bus.schedulers import ask_schedulers
from libs.contracts import streams, subjects
from libs.contracts.control import (
    CognitionStatus,
    StartCognitionRequest,
    StopCognitionRequest,
    ThinkerCircuit,
)
from libs.contracts.limits import SHARDS
from libs.contracts.lives import InboxQuery, InboxReply, SpendQuery, SpendReply
from libs.contracts.personas import (
    CreatePersonaRequest,
    DependenciesRequest,
    ImportPersonasRequest,
    ImportPersonasResponse,
    LineageGraph,
    PersonaDependencies,
    PersonaPage,
    PersonaRuntimeState,
    PersonaStatus,
    ReapPersonaRequest,
    ReapPersonaResponse,
)
from libs.contracts.presence import PresenceRecord
from libs.contracts.refusals import NotFound
from libs.contracts.registry import (
    DependenciesCommand,
    LineageEntry,
    LineagePage,
    LineageQuery,
    LoopPhase,
    LoopState,
    PersonaListQuery,
    PersonaListReply,
    PersonaQuery,
    PersonaRecord,
    ReapCommand,
    RegistryStatus,
)
from libs.contracts.rollups import spender
from libs.contracts.spending import SpendBy, SpendPage
from libs.contracts.tokens import shard_of
from libs.contracts.work import Counters, CountersQuery, CountersReply, SchedulerStatus
from services.gateway.lineage import graph
from services.gateway.spending import knows, spend_page

_WITHIN_S = 5.0
_STOP_WITHIN_S = 20.0
_START_WITHIN_S = 12.0
_IMPORT_WITHIN_S = 20.0
_PAGE = 1000
_SHARDS_AT_ONCE = 16
_CLOCKS_AGREE = timedelta(seconds=3)
"""That far apart; an answer takes up to two seconds."""


class _Nothing(Struct, frozen=True):
    pass


class Swarm:
    """The swarm as clients see it, put together from what its owners answer."""

    def __init__(self, bus: Bus, peers: Peers) -> None:
        self._bus = bus
        self._peers = peers

    async def create(self, request: CreatePersonaRequest) -> PersonaRuntimeState:
        """Create a persona."""
        record = await self._bus.ask(
            subjects.registry(subjects.CREATE), request, PersonaRecord, timeout=_WITHIN_S
        )
        return _join(record, Counters(0, None))

    async def import_all(self, request: ImportPersonasRequest) -> ImportPersonasResponse:
        """Create those of many personas that are not there yet."""
        return await self._bus.ask(
            subjects.registry(subjects.IMPORT), request, ImportPersonasResponse, timeout=_IMPORT_WITHIN_S
        )

    async def reap(self, persona_id: str, request: ReapPersonaRequest) -> ReapPersonaResponse:
        """Reap a persona, or a tree."""
        command = ReapCommand(persona_id=persona_id, request=request)
        return await self._bus.ask(
            subjects.registry(subjects.REAP), command, ReapPersonaResponse, timeout=_WITHIN_S
        )

    async def set_dependencies(self, persona_id: str, request: DependenciesRequest) -> PersonaDependencies:
        """Set whom a persona waits for, and who waits for it."""
        command = DependenciesCommand(persona_id=persona_id, request=request)
        return await self._bus.ask(
            subjects.registry(subjects.DEPENDENCIES), command, PersonaDependencies, timeout=_WITHIN_S
        )

    async def persona(self, persona_id: str) -> PersonaRuntimeState:
        """Return one persona with its counters."""
        (state,) = await self._joined([await self.record(persona_id)])
        return state

    async def record(self, persona_id: str) -> PersonaRecord:
        """Return the registry's record of a persona. Raises `NotFound`."""
        query = PersonaQuery(persona_id=persona_id)
        return await self._bus.ask(
            subjects.registry(subjects.PERSONA), query, PersonaRecord, timeout=_WITHIN_S
        )

    async def inbox(self, persona_id: str, limit: int) -> InboxReply:
        """Return what a persona's inbox holds, the best first. Raises `NotFound`."""
        await self.record(persona_id)
        query = InboxQuery(persona_id=persona_id, limit=limit)
        return await self._bus.ask(subjects.held(shard_of(persona_id)), query, InboxReply, timeout=_WITHIN_S)

    async def spend(self, by: SpendBy, swarm_id: str | None, limit: int) -> SpendPage:
        """Return what personas have spent, asked of the owners of all shards.

        Raises `Unavailable`; `NotFound` where nobody is of the swarm, or was, and no hour knows it either.
        """
        members: set[str] | None = None
        if by is SpendBy.PERSONA and swarm_id is not None:
            members = {*await self.members(swarm_id), spender(swarm_id)}
        room = asyncio.Semaphore(_SHARDS_AT_ONCE)

        async def of(shard: int) -> SpendReply:
            async with room:
                return await self._bus.ask(subjects.spend(shard), SpendQuery(), SpendReply, timeout=_WITHIN_S)

        replies = await asyncio.gather(*(of(shard) for shard in range(SHARDS)))
        page = spend_page(replies, by, swarm_id, members, limit)
        if swarm_id is None or page.rows or knows(replies, swarm_id) or await self.members(swarm_id):
            return page
        raise NotFound.unknown_swarm(swarm_id)

    async def members(self, swarm_id: str, *, living: bool = False) -> list[str]:
        """Return the ids of a swarm's personas, all or those that are not reaped, read in pages, sorted."""
        found: list[str] = []
        query = PersonaListQuery(swarm_id=swarm_id, limit=_PAGE)
        while True:
            page = await self._bus.ask(
                subjects.registry(subjects.PERSONAS), query, PersonaListReply, timeout=_WITHIN_S
            )
            found += [
                record.identity.id
                for record in page.records
                if not living or record.status is not PersonaStatus.REAPED
            ]
            if page.next_after is None:
                return found
            query = PersonaListQuery(swarm_id=swarm_id, after=page.next_after, limit=_PAGE)

    async def personas(self, query: PersonaListQuery) -> PersonaPage:
        """Return a page of personas with their counters."""
        reply = await self._bus.ask(
            subjects.registry(subjects.PERSONAS), query, PersonaListReply, timeout=_WITHIN_S
        )
        states = await self._joined(reply.records)
        return PersonaPage(personas=states, next_after=reply.next_after, total=reply.total)

    async def lineage(self) -> LineageGraph:
        """Return the whole tree, read in pages as of one moment."""
        entries: list[LineageEntry] = []
        query = LineageQuery()
        while True:
            page = await self._bus.ask(
                subjects.registry(subjects.LINEAGE), query, LineagePage, timeout=_WITHIN_S
            )
            entries += page.entries
            if page.next_after is None:
                return graph(entries)
            query = LineageQuery(after=page.next_after, as_of=page.as_of)

    async def start(self, request: StartCognitionRequest) -> CognitionStatus:
        """Start the loop and return the status after it."""
        await self._bus.ask(subjects.registry(subjects.START), request, LoopState, timeout=_START_WITHIN_S)
        return await self.status()

    async def stop(self, request: StopCognitionRequest) -> CognitionStatus:
        """Stop the loop and return the status after it."""
        await self._bus.ask(subjects.registry(subjects.STOP), request, LoopState, timeout=_STOP_WITHIN_S)
        return await self.status()

    async def status(self) -> CognitionStatus:
        """Return the loop as it is now: what is desired by the registry, what is by the schedulers [4.3]."""
        living, asked = len(self._peers.living()), datetime.now(UTC)
        registry, schedulers, events, snapshots, present = await asyncio.gather(
            self._bus.ask(subjects.registry(subjects.STATUS), _Nothing(), RegistryStatus, timeout=_WITHIN_S),
            ask_schedulers(self._bus, living=living),
            stream_state(self._bus, streams.EVENTS),
            stream_state(self._bus, streams.SNAPSHOTS),
            list_present(self._bus),
        )
        ticked = ticked_of(registry, schedulers)
        return CognitionStatus(
            enabled=registry.enabled,
            running=_running(registry, schedulers),
            loop_interval_ms=registry.loop.interval_ms,
            started_at=registry.loop.started_at,
            last_tick_at=last_tick(schedulers, asked),
            persona_count=registry.persona_count,
            active_persona_count=registry.active_persona_count,
            events_buffered=int(events["messages"]),
            snapshots_buffered=int(snapshots["messages"]),
            lag_ms=max((s.lag_ms for s in schedulers), default=0),
            ticked_persona_count=ticked,
            not_ticked_because=why_not_ticked(registry, schedulers)
            if ticked < registry.active_persona_count
            else None,
            default_policy=registry.default_policy,
            circuits=circuits_of(present),
            phase=registry.loop.phase,
        )

    async def _joined(self, records: list[PersonaRecord]) -> list[PersonaRuntimeState]:
        by_shard: dict[int, list[str]] = defaultdict(list)
        for record in records:
            by_shard[shard_of(record.identity.id)].append(record.identity.id)
        found: dict[str, Counters] = {}
        for counters in await asyncio.gather(*(self._counters(s, ids) for s, ids in by_shard.items())):
            found |= counters
        return [_join(record, found[record.identity.id]) for record in records]

    async def _counters(self, shard: int, persona_ids: list[str]) -> dict[str, Counters]:
        query = CountersQuery(persona_ids=persona_ids)
        reply = await self._bus.ask(subjects.counters(shard), query, CountersReply, timeout=_WITHIN_S)
        return dict(zip(persona_ids, reply.counters, strict=True))


def _running(registry: RegistryStatus, schedulers: list[SchedulerStatus]) -> bool:
    return any(s.ticking and s.run == registry.loop.run for s in schedulers)


def last_tick(schedulers: list[SchedulerStatus], asked: datetime) -> datetime | None:
    """Return when the loop ticked last, also where clocks of schedulers are wrong."""
    return max((tick for s in schedulers if (tick := _tick_of(s, asked)) is not None), default=None)


def _tick_of(scheduler: SchedulerStatus, asked: datetime) -> datetime | None:
    """Return a scheduler's last tick, as its clock says unless that disagrees with ours.

    Then the tick is as old as it says, seen from when it was asked: never newer than it was. What it has
    from journals alone is some clock's, and no newer than now.
    """
    said = scheduler.last_tick_at
    if scheduler.tick_age_ms is None:
        return min(said, asked) if said is not None else None
    true = asked - timedelta(milliseconds=scheduler.tick_age_ms)
    return said if said is not None and abs(said - true) < _CLOCKS_AGREE else true


def ticked_of(registry: RegistryStatus, schedulers: list[SchedulerStatus]) -> int:
    """Return how many active personas are ticked now, at most as many as there are."""
    ticked = sum(s.personas for s in schedulers if s.ticking and s.run == registry.loop.run)
    return min(ticked, registry.active_persona_count)


def why_not_ticked(registry: RegistryStatus, schedulers: list[SchedulerStatus]) -> str:
    """Return why active personas are not ticked, in one sentence."""
    if not registry.enabled:
        return "cognition is disabled by CODETETHER_COGNITION_ENABLED=false"
    if registry.loop.phase is not LoopPhase.RUNNING:
        return f"the loop is {registry.loop.phase.value}"
    if not schedulers:
        return "no scheduler answers"
    missing = sorted(why for scheduler in schedulers for why in scheduler.missing)
    return "; ".join(missing) or "their shards are being taken over"


def circuits_of(present: list[PresenceRecord]) -> list[ThinkerCircuit]:
    """Return the circuit breakers of those who live, in their order."""
    found = ((one.instance, one.summary.circuit) for one in present if one.summary and not one.ended)
    return [
        ThinkerCircuit(thinker=instance, **asdict(circuit))
        for instance, circuit in found
        if circuit is not None
    ]


def _join(record: PersonaRecord, counters: Counters) -> PersonaRuntimeState:
    """Return a record with its counters; a tick updates `updated_at` [2.2]."""
    tick = counters.last_tick_at
    return PersonaRuntimeState(
        identity=record.identity,
        policy=record.policy,
        status=record.status,
        thought_count=counters.thought_count,
        last_tick_at=tick,
        updated_at=max(record.updated_at, tick) if tick is not None else record.updated_at,
        waiting_for=record.waiting_for,
        life=counters.life,
    )
