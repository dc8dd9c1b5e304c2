"""What thinkers and gateways ask a shard's owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from libs.bus.endpoints import Request
from libs.bus.loop import Postpone
from libs.cognition.compose import compose, failed
from libs.contracts.journal import ThoughtEntry
from libs.contracts.limits import THOUGHT_BYTES
from libs.contracts.work import CountersQuery, CountersReply, Grant, GrantRequest, Results, Settled
from services.scheduler.dispatches import Dispatches
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import Fenced, ShardOwner, weigh

_encode = msgspec.json.Encoder().encode


class Handlers:
    """The endpoints of one shard."""

    def __init__(
        self, owner: ShardOwner, run_now: Callable[[], int | None], metrics: SchedulerMetrics
    ) -> None:
        self._owner = owner
        self._run_now = run_now
        self._metrics = metrics
        self._settling: set[tuple[str, str]] = set()

    async def grant(self, message: GrantRequest, _: Request) -> bytes:
        """Say which items of a chunk are still wanted."""
        items = self._owner.dispatches.grant(message, self._run_now(), _now())
        return _encode(Grant(items=items))

    async def result(self, message: Results, _: Request) -> bytes | None:
        """Answer once every thought is stored or stale.

        A repetition of what is being settled gets no answer: the next one will find it settled.
        """
        self._owner.dispatches.touch(message.chunk, _now())
        key = (message.chunk, message.thoughts[0].persona_id if message.thoughts else "")
        if key in self._settling:
            return None
        self._settling.add(key)
        try:
            return _encode(await self._settle(message.thoughts))
        finally:
            self._settling.discard(key)

    async def _settle(self, thoughts: list[ThoughtEntry]) -> Settled:
        try:
            settled = await self._owner.submit([_bounded(self._owner.dispatches, t) for t in thoughts])
        except Fenced as error:
            raise Postpone(str(error)) from error
        self._metrics.stored.inc(settled.stored)
        self._metrics.stale.inc(settled.stale)
        return settled

    async def counters(self, message: CountersQuery, _: Request) -> bytes:
        """Show counters of personas."""
        return _encode(CountersReply(counters=self._owner.ledger.counters(message.persona_ids)))


def _bounded(dispatches: Dispatches, thought: ThoughtEntry) -> ThoughtEntry:
    """Return the thought, or its declared fallback where it is larger than a thought may be."""
    if weigh(thought) <= THOUGHT_BYTES:
        return thought
    item = dispatches.item(thought.persona_id)
    if item is None:
        return thought
    error = f"the thought's events weigh more than {THOUGHT_BYTES} bytes"
    return compose(item, thought.run, failed(error), datetime.now(UTC))


def _now() -> float:
    return asyncio.get_running_loop().time()
