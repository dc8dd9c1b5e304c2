"""A gateway in this process, over a real broker and registry, and owners of shards as a test likes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.bus.endpoints import Gate, Request, listening
from libs.bus.loop import MessageLoop
from libs.bus.telemetry import NoTelemetry
from libs.concurrency.tasks import Background
from libs.contracts import streams, subjects
from libs.contracts.inbox import HeldItem
from libs.contracts.limits import SHARDS
from libs.contracts.lives import InboxQuery, InboxReply, PersonaLife, SpendQuery, SpendReply
from libs.contracts.thoughts import Event
from libs.contracts.work import Counters, CountersQuery, CountersReply
from libs.runtime.health import Health
from libs.settings.gateway import read_gateway
from libs.settings.process import process_reader
from services.gateway.app import make_app
from services.gateway.connections import ConnectionLimits, Door
from services.gateway.feed import KEEP_ALIVE_S, Feed
from services.gateway.service import Server, config, listen
from tests.services.asking import Asked, answering_registry
from tests.unit.make import NOW

M = TypeVar("M", bound=msgspec.Struct)


class Owners:
    """What the owners of all shards say."""

    def __init__(self) -> None:
        self.counters: dict[str, Counters] = {}
        self.items: dict[str, list[HeldItem]] = {}
        self.spent: dict[int, SpendReply] = {}
        self.silent: set[int] = set()
        """Shards whose owner does not answer about spending."""

        self.asked_at_once = 0

    async def count(self, query: CountersQuery, _: Request) -> bytes:
        found = [self.counters.get(name, Counters(0, None)) for name in query.persona_ids]
        return msgspec.json.encode(CountersReply(counters=found))

    async def show(self, query: InboxQuery, _: Request) -> bytes:
        held = self.items.get(query.persona_id, [])
        return msgspec.json.encode(InboxReply(items=held[: query.limit], held=len(held)))

    async def spend(self, _: SpendQuery, request: Request) -> bytes | None:
        shard = int(request.subject.rpartition(".")[2])
        if shard in self.silent:
            return None
        return msgspec.json.encode(self.spent.get(shard, SpendReply(personas=[], hours=[])))


@asynccontextmanager
async def owners(bus: Bus) -> AsyncIterator[Owners]:
    """Owners of all shards that answer while the context is open."""
    made = Owners()
    async with AsyncExitStack() as stack:
        gate = await stack.enter_async_context(Gate())
        await stack.enter_async_context(_answering(bus, "counters", CountersQuery, made.count, gate))
        await stack.enter_async_context(_answering(bus, "held", InboxQuery, made.show, gate))
        await stack.enter_async_context(_answering(bus, "spend", SpendQuery, made.spend, gate))
        yield made


def _answering(
    bus: Bus, what: str, kind: type[M], handle: Callable[[M, Request], Awaitable[bytes | None]], gate: Gate
) -> Any:
    loop: MessageLoop[M, Request] = MessageLoop(
        what, msgspec.json.Decoder(kind).decode, handle, NoTelemetry()
    )
    return listening(bus, f"perpetua.{what}.*", loop, gate)


class StandIn:
    """A gateway that is served, and what stands behind it."""

    def __init__(self, bus: Bus, asked: Asked, owners: Owners, port: int, answered: list[str]) -> None:
        self.bus = bus
        self.asked = asked
        self.owners = owners
        self.url = f"http://127.0.0.1:{port}"
        self.answered = answered
        """What the process would show as its last activity, one after the other."""

        self._stored = 0

    async def emit(
        self, event_type: str, persona_id: str | None, payload: Any, swarm_id: str | None = None
    ) -> str:
        """Store an event as the compressor does; return its id."""
        event = Event(
            id=str(uuid4()),
            event_type=event_type,
            persona_id=persona_id,
            swarm_id=swarm_id,
            timestamp=datetime.now(UTC),
            payload=payload,
        )
        self._stored += 1
        await self.bus.publish(
            subjects.event_in(swarm_id, persona_id, event_type),
            msgspec.json.encode(event),
            {streams.PLACE: f"{self._stored}.0"},
        )
        return event.id


@asynccontextmanager
async def gateway(bus: Bus, *, keep_alive: float = KEEP_ALIVE_S, **env: str) -> AsyncIterator[StandIn]:
    """A gateway that is served on a port of its own while the context is open."""
    given = {"PERPETUA_GATEWAY_PORT": "0"} | {f"PERPETUA_{name}": value for name, value in env.items()}
    settings = read_gateway(process_reader(given), listens=True)
    refused: list[str] = []
    answered: list[str] = []
    async with answering_registry(bus) as asked, owners(bus) as theirs, Background() as tasks:
        feed = Feed(bus, NoTelemetry(), keep_alive=keep_alive)
        app = make_app(
            bus=bus,
            swarm=asked.swarm,
            sending=asked.sending,
            feed=feed,
            health=Health(),
            registry=CollectorRegistry(),
            settings=settings,
            refused=refused.append,
            answering=answered.append,
            version="0",
        )
        door = Door(ConnectionLimits(connections=64, client_connections=0), refused.append)
        listener = listen(settings)
        server = Server(config(app, settings), door)
        tasks.create_task(feed.run(), name="feed")
        serving = tasks.create_task(server.serve(sockets=[listener]), name="http")
        await server.until_started()
        yield StandIn(bus, asked, theirs, listener.getsockname()[1], answered)
        feed.close()
        server.end()
        await asyncio.wait([serving])


def life(**changes: Any) -> PersonaLife:
    """What a scheduler says of a persona's life."""
    words: dict[str, Any] = {
        "energy": 0.5,
        "attention": 1.0,
        "compute_budget": 0.25,
        "mood": "active",
        "inbox_load": 1,
        "response_count": 2,
        "last_activity_at": NOW,
        "next_look_at": NOW,
        "idle_secs": 7,
        "tokens": 420,
        "cpu_ms": 900,
    }
    return PersonaLife(**(words | changes))


def held_item(item_id: str, **changes: Any) -> HeldItem:
    """An item in an inbox, as its owner shows it."""
    words: dict[str, Any] = {
        "id": item_id,
        "domain": "chat",
        "source_id": "room 1",
        "content": "Is it calm?",
        "timestamp": NOW,
        "base_priority": 0.5,
        "effective_priority": 0.75,
        "waited_s": 15.0,
        "attempts": 0,
        "taken_up": False,
    }
    return HeldItem(**(words | changes))


ALL_SHARDS = range(SHARDS)
