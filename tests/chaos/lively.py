"""What a storm has besides where personas have lives: messages, posts, shared memory, credits."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from libs.bus.connection import Bus
from libs.concurrency.tasks import Tasks
from tests.chaos.clients import Clients
from tests.chaos.collector import Collector, Event
from tests.chaos.lives import COUNCIL, Ends, Senders
from tests.chaos.memory import Memory
from tests.chaos.posts import Posts
from tests.chaos.verdict import AGREE_WITHIN_S, held

_ITEMS_END_WITHIN_S = 130.0
"""Who has no credits left waits for the next minute, or for the one after it."""

_CALM_POSTS = 3
_MOST = 2


class Lively:
    """Sends while the storm blows, and judges what the stream shows."""

    def __init__(self, bus: Bus, clients: Clients, collector: Collector, seed: int) -> None:
        self._bus = bus
        self._clients = clients
        self._collector = collector
        self._senders = Senders(clients, random.Random(seed))
        self._ends, self._posts, self._memory = Ends(), Posts(), Memory()
        self._posting: asyncio.Task[None] | None = None
        self._calm: set[str] = set()
        self._calm_at = 0.0
        collector.also = self._note

    def _note(self, event: Event) -> None:
        for one in (self._ends, self._posts, self._memory):
            one.note(event)

    def begin(self, tasks: Tasks) -> None:
        """Send from now on, until the clients end."""
        tasks.create_task(self._senders.run(), name="senders")
        self._posting = tasks.create_task(self._senders.run_posts(), name="posts")

    async def end(self) -> None:
        """Send to everybody once more, and wait until all that was sent has ended.

        Who waited for credits by then goes on meanwhile. Others may wait: without leases a swarm that shares
        does not come to rest, since a takeover does not know who only echoes.
        """
        self._calm_at = time.monotonic()
        if self._posting is not None:
            await self._posting
        await self._senders.wake_all()
        self._calm = {await self._senders.post(COUNCIL, _MOST) for _ in range(_CALM_POSTS)}
        await held(_ITEMS_END_WITHIN_S, self._all_ended)  # who has not ended is found later

    async def _all_ended(self) -> bool:
        if self._ends.open(self._senders.accepted) or self._paused():
            return False
        return not await self._posts.open(self._bus, self._senders.posted)

    def _paused(self) -> list[str]:
        return self._ends.paused(self._calm_at, self._collector.reaped)

    async def findings(self) -> list[str]:
        """Return what is not as it must be, once the loop has stopped."""
        spent: list[str] = []

        async def agree() -> bool:
            spent[:] = self._ends.spend_findings(await self._spent("persona"), await self._spent("role"))
            return not spent

        await held(AGREE_WITHIN_S, agree)
        return [
            *spent,
            *self._ends.findings(self._senders.accepted),
            *self._ends.credit_findings(self._clients.book.parents, self._paused()),
            *await self._posts.findings(self._bus, self._senders.posted, self._calm),
            *self._memory.findings,
        ]

    def facts(self) -> dict[str, Any]:
        """Return what there was."""
        return {
            "messages": len(self._senders.accepted),
            "posts": len(self._senders.posted),
            "post answers": self._posts.answers,
            "declined": self._posts.declined(),
            "roll-ups": self._memory.roll_ups,
            "by a model": self._memory.by_model,
            "snapshots left out": self._memory.left_out,
            "failed attempts": sum(self._ends.failed.values()),
            "paused": self._ends.pauses,
            "fullest tree": round(self._ends.fullest_tree(self._clients.book.parents), 2),
            "tokens": sum(self._ends.tokens.values()),
        }

    async def _spent(self, by: str) -> dict[str, int]:
        status, page = await self._clients.ask("GET", f"/v1/swarm/spend?by={by}&limit=1000")
        return {row["key"]: row["tokens"] for row in page["rows"]} if status == 200 else {}
