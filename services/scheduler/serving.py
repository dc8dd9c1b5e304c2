"""What a shard's owner answers: the endpoints of one shard, open while it is owned."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from libs.bus.connection import Bus
from libs.bus.endpoints import Gate, Request, listening
from libs.bus.loop import MessageLoop
from libs.bus.telemetry import Telemetry
from libs.contracts import subjects
from libs.contracts.accounts import AccountsRequest
from libs.contracts.lives import InboxQuery, SpendQuery
from libs.contracts.rollups import RollUpAsk, RollUpRequest
from libs.contracts.work import CountersQuery, GrantRequest, Results, StillThinking
from services.scheduler.handlers import Handlers

Handler = Callable[[Any, Request], Awaitable[bytes | None]]


@asynccontextmanager
async def served(
    bus: Bus, shard: int, handlers: Handlers, gate: Gate, results_gate: Gate, telemetry: Telemetry
) -> AsyncIterator[None]:
    """Answer for a shard while the context is open. Results have a gate of their own: they wait long."""
    endpoints: list[tuple[str, str, type, Handler, Gate]] = [
        ("grant", subjects.grant(shard), GrantRequest, handlers.grant, gate),
        ("thinking", subjects.thinking(shard), StillThinking, handlers.thinking, gate),
        ("result", subjects.result(shard), Results, handlers.result, results_gate),
        ("counters", subjects.counters(shard), CountersQuery, handlers.counters, gate),
        ("held", subjects.held(shard), InboxQuery, handlers.held, gate),
        ("spend", subjects.spend(shard), SpendQuery, handlers.spend, gate),
        ("roll_up", subjects.roll_up(shard), RollUpRequest, handlers.rolling_up.store, gate),
        ("roll_up_credits", subjects.roll_up_credits(shard), RollUpAsk, handlers.rolling_up.admit, gate),
        ("accounts", subjects.accounts(shard), AccountsRequest, handlers.accounts, gate),
    ]
    async with AsyncExitStack() as stack:
        for name, subject, kind, handle, through in endpoints:
            decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)
            loop: MessageLoop[Any, Request] = MessageLoop(name, decoder.decode, handle, telemetry)
            await stack.enter_async_context(listening(bus, subject, loop, through))
        yield
