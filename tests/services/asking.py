"""A registry that answers on a real broker, and a gateway's parts over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from libs.bus.connection import Bus
from libs.bus.endpoints import Gate, micro_service
from libs.bus.presence import Peers
from libs.bus.telemetry import NoTelemetry
from libs.contracts import subjects
from libs.contracts.personas import ReapPersonaRequest
from services.gateway.peers import Swarm
from services.gateway.sending import Sending
from services.registry.handlers import Handlers
from services.registry.running import Runner
from tests.services.support import Registry, registry
from tests.unit.make import NOW, create


class Asked:
    """What a gateway has: the swarm and the way to send, over a registry that is there."""

    def __init__(self, bus: Bus, of: Registry) -> None:
        numbers = count(1)
        self.registry = of
        self.swarm = Swarm(bus, Peers(bus, "scheduler", subjects.presence_key("gateway", "test")))
        self.sending = Sending(bus, self.swarm, lambda: NOW, lambda: f"id-{next(numbers)}")

    async def create(self, *persona_ids: str, **more: Any) -> None:
        for persona_id in persona_ids:
            await self.registry.create(create(persona_id, **more))

    async def reap(self, persona_id: str) -> None:
        await self.registry.reaper.reap(persona_id, ReapPersonaRequest())


@asynccontextmanager
async def answering_registry(bus: Bus, *, asked_over: Bus | None = None) -> AsyncIterator[Asked]:
    """A registry with its endpoints, asked over the same connection or another."""
    async with registry(bus) as made, Gate() as gate:
        runner = Runner(bus, made.committer, made.roster, made.rules, made.position, lambda: True)
        handlers = Handlers(made.tail, made.roster, made.rules, made.committer, made.reaper, runner)
        async with micro_service(
            bus, "registry", "0.0.0", "A test", subjects.REGISTRY, handlers.endpoints(), NoTelemetry(), gate
        ):
            yield Asked(asked_over or bus, made)
