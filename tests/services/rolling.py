"""A compressor, thinkers that sum up, and a stand-in for the owner, over a real broker [A18]."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.bus.endpoints import Gate, Request, listening
from libs.bus.loop import MessageLoop
from libs.bus.telemetry import NoTelemetry
from libs.cognition.compose import Answer, compose
from libs.cognition.rollup import roll_up_event
from libs.contracts import subjects
from libs.contracts.journal import JournalEvent, ShardRecord, ThoughtEntry
from libs.contracts.rollups import (
    RollUpAnswer,
    RollUpAsk,
    RollUpReply,
    RollUpRequest,
    SummaryRequest,
)
from libs.contracts.thoughts import MemorySnapshot, SnapshotScope
from libs.contracts.tokens import shard_of
from libs.runtime.metrics import ProcessMetrics
from services.compressor.metrics import CompressorMetrics
from services.compressor.publishing import Publishing
from services.compressor.rolling import Rolling
from services.compressor.rollups import RollUps
from services.gateway.event_log import snapshot_page
from services.thinker.backends.base import Backend
from services.thinker.backends.openai_compat import OpenAICompat
from services.thinker.metrics import ThinkerMetrics
from services.thinker.summaries import Summaries
from tests.bus.support import running
from tests.endpoint.serving import settings
from tests.support.endpoint import Endpoint
from tests.support.eventually import eventually
from tests.unit.make import item

INTERVAL_S = 0.2


class Journal:
    """Records appended as owners append them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._numbers: dict[int, int] = defaultdict(int)

    async def append(
        self, shard: int, *thoughts: ThoughtEntry, events: list[JournalEvent] | None = None
    ) -> None:
        self._numbers[shard] += 1
        record = ShardRecord(
            number=self._numbers[shard], owner="test", thoughts=list(thoughts), events=events or []
        )
        await self._bus.publish(subjects.journal(shard), msgspec.json.encode(record))

    async def snapshots(self, *names: str, count: int = 4, **more: Any) -> None:
        """Snapshots of personas that share, of the swarm `s` unless said otherwise."""
        for name in names:
            words = {"swarm_id": "s", "shares": True} | more
            asked = msgspec.structs.replace(item(name, count), **words)
            answer = Answer(text=f"{name} is calm.", model="m")
            await self.append(shard_of(name), compose(asked, 1, answer, datetime.now(UTC)))


class Owner:
    """Journals roll-ups, each once, as the owner of a swarm's shard does."""

    def __init__(self, journal: Journal) -> None:
        self.requests: list[RollUpRequest] = []
        self.before: Callable[[], Awaitable[None]] | None = None
        self._journal = journal
        self._known: set[str] = set()
        self.asked: list[RollUpAsk] = []
        self.answer = RollUpAnswer()
        """What is said to whoever asks whether a model may sum up."""

    async def admit(self, message: RollUpAsk, _: Request) -> bytes:
        self.asked.append(message)
        return msgspec.json.encode(self.answer)

    async def roll_up(self, message: RollUpRequest, _: Request) -> bytes:
        if message.id in self._known:
            return msgspec.json.encode(RollUpReply(repeated=True))
        if self.before is not None:
            await self.before()
        self._known.add(message.id)
        self.requests.append(message)
        event = roll_up_event(message, datetime.now(UTC))
        await self._journal.append(shard_of(message.swarm_id), events=[event])
        return msgspec.json.encode(RollUpReply())


@asynccontextmanager
async def owning(bus: Bus, owner: Owner, *swarm_ids: str) -> AsyncIterator[None]:
    loop = MessageLoop("roll-up", msgspec.json.Decoder(RollUpRequest).decode, owner.roll_up, NoTelemetry())
    admitting = MessageLoop("admit", msgspec.json.Decoder(RollUpAsk).decode, owner.admit, NoTelemetry())
    async with Gate() as gate, AsyncExitStack() as stack:
        for shard in {shard_of(swarm_id) for swarm_id in swarm_ids}:
            await stack.enter_async_context(listening(bus, subjects.roll_up(shard), loop, gate))
            asked = listening(bus, subjects.roll_up_credits(shard), admitting, gate)
            await stack.enter_async_context(asked)
        yield


@asynccontextmanager
async def summing_up(bus: Bus, backend: Backend) -> AsyncIterator[CollectorRegistry]:
    """A thinker with a backend, and what it counts."""
    registry = CollectorRegistry()
    summaries = Summaries(lambda: backend, ThinkerMetrics(registry, lambda: 0))
    loop = MessageLoop("sum", msgspec.json.Decoder(SummaryRequest).decode, summaries.sum_up, NoTelemetry())
    async with Gate() as gate, listening(bus, subjects.SUMMARIES, loop, gate, queue="summaries"):
        yield registry


class Compressor:
    """Publishing and rolling up."""

    def __init__(self, bus: Bus, interval_s: float = INTERVAL_S) -> None:
        self.process = ProcessMetrics("compressor", "c", "0")
        metrics = CompressorMetrics(self.process)
        self.charge = True
        self.rollups = RollUps(interval_s)
        self.publishing = Publishing(
            bus, lambda: self.charge, metrics, lambda record, sequence: self.rolling.note(record, sequence)
        )
        publishes = self.publishing.publishes.is_set
        self.rolling = Rolling(bus, self.rollups, interval_s, publishes, lambda: self.charge, metrics)

    def counted(self, name: str, **labels: str) -> float:
        return self.process.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def compressing(bus: Bus, interval_s: float = INTERVAL_S) -> AsyncIterator[Compressor]:
    made = Compressor(bus, interval_s)
    async with running(made.publishing.run(), made.rolling.run()):
        await eventually(made.publishing.publishes.is_set)
        yield made


async def rolled(bus: Bus, swarm_id: str | None = None) -> list[MemorySnapshot]:
    page = await snapshot_page(bus, 0, 1000, SnapshotScope.SWARM, swarm_id)
    return [one.snapshot for one in page.snapshots]


@asynccontextmanager
async def asking(server: Endpoint) -> AsyncIterator[OpenAICompat]:
    backend = OpenAICompat(settings(server.base_url), "a test named it")
    try:
        yield backend
    finally:
        await backend.close()
