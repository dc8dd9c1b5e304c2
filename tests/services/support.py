"""Parts of services on a real broker, as tests put them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from secrets import token_hex

import msgspec
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.bus.telemetry import NoTelemetry
from libs.concurrency.tasks import Background
from libs.contracts import subjects
from libs.contracts.journal import RegistryRecord, ShardRecord
from libs.contracts.personas import CreatePersonaRequest
from libs.journal.position import PublicPosition
from libs.journal.tail import Tail
from libs.roster.load import follow, load
from libs.roster.state import Roster
from services.registry.buckets import Buckets
from services.registry.committer import Committed, Committer
from services.registry.reaping import Reaper
from services.scheduler.bank import Bank
from services.scheduler.dispatches import Dispatch
from services.scheduler.handlers import Handlers
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner
from services.scheduler.rolling_up import RollingUp
from services.scheduler.showing import Showing
from tests.bus.support import held
from tests.unit.make import rules

_decode = msgspec.json.Decoder(RegistryRecord).decode
_decode_shard = msgspec.json.Decoder(ShardRecord).decode


class Registry:
    """A registry without its endpoints: roster, committer, reaper and buckets over one connection."""

    def __init__(self, bus: Bus, *, in_charge: bool = True, number: int = 1) -> None:
        self.bus = bus
        self.roster = Roster()
        self.rules = rules(new_id=lambda: token_hex(8))
        self.position = PublicPosition()
        self.in_charge = in_charge
        self.buckets = Buckets(bus, self.roster, self.position, lambda: self.in_charge)
        self.tail = Tail(bus, subjects.JOURNAL_REGISTRY, self._fold)
        self.committer = Committer(self.tail, self.roster, f"registry-{number}")
        self.reaper = Reaper(bus, self.committer, self.roster, self.rules, lambda: self.in_charge)

    def _fold(self, sequence: int, data: bytes) -> None:
        self.buckets.note(self.roster.fold(sequence, data), sequence)

    async def load(self) -> None:
        self.buckets.revisions = await load(self.bus, self.tail, self.roster, NoTelemetry())

    async def create(self, request: CreatePersonaRequest) -> Committed:
        return await self.committer.commit(lambda view: self.rules.create(view, request), shared=True)


@asynccontextmanager
async def registry(bus: Bus, *, in_charge: bool = True, number: int = 1) -> AsyncIterator[Registry]:
    """A registry at work: loaded, following the journal, committing, announcing, writing buckets."""
    made = Registry(bus, in_charge=in_charge, number=number)
    await made.load()
    async with Background() as tasks:
        tasks.create_task(follow(bus, made.tail, NoTelemetry()))
        tasks.create_task(made.committer.run())
        tasks.create_task(made.reaper.run())
        tasks.create_task(made.buckets.run(made.tail))
        yield made


async def registry_records(bus: Bus) -> list[RegistryRecord]:
    """What `j.registry` holds."""
    return [_decode(stored.data) for stored in await held(bus, "JOURNAL", subjects.JOURNAL_REGISTRY)]


def owner(bus: Bus, shard: int, boot: str, position: PublicPosition | None = None) -> ShardOwner:
    """An owner of a shard; nobody is reaped, as far as the registry goes."""
    return ShardOwner(bus, shard, boot, position or PublicPosition(), lambda _: False, lambda _, __: None)


async def _nobody(*_: object) -> None:
    raise AssertionError("no thinker has ended")


class Heard:
    """All is heard, at a clock that is so many seconds ahead; `from_when` says since when."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.ahead_s = ahead_s
        self.from_when = -inf

    def since(self) -> float:
        return self.from_when

    def heard_for(self, at: float) -> float:
        return asyncio.get_running_loop().time() + self.ahead_s - at


def handlers(
    one: ShardOwner,
    bank: Bank,
    roster: Roster,
    rolling_up: RollingUp | None = None,
    suspected: Callable[[ShardOwner, Dispatch], Awaitable[None]] = _nobody,
    heard_since: Callable[[], float] = lambda: -inf,
) -> Handlers:
    """What answers for an owner's shard, in a run 1 in which no thinker ends unless it is said what then."""
    metrics = SchedulerMetrics(CollectorRegistry())
    showing = Showing(roster, lambda _: None, lambda _: [], enforced=True)
    rolling_up = rolling_up or RollingUp(one, None, 256, metrics)
    return Handlers(
        one, lambda: 1, suspected, metrics, lambda _: None, showing, bank, rolling_up, heard_since
    )


async def in_step() -> None:
    """A roster has all that the registry's journal holds."""


async def shard_records(bus: Bus, shard: int) -> list[ShardRecord]:
    """What a shard's journal subject holds."""
    return [_decode_shard(stored.data) for stored in await held(bus, "JOURNAL", subjects.journal(shard))]
