"""Work that will not come back by itself: dead letters, and chunks that vanished from the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import structlog

from libs.bus.connection import Bus
from libs.bus.endpoints import Request
from libs.bus.errors import BusError
from libs.bus.queue import bury, purge_message
from libs.bus.read import message_at
from libs.cognition.compose import compose, failed
from libs.contracts import streams, subjects
from libs.contracts.limits import ACK_WAIT_S, MAX_DELIVER
from services.scheduler.dispatches import HEARD_S, Dispatch
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner

log = structlog.get_logger("lost-work")

_LOOK_S = 5.0
_NEGLECTED_S = 3 * ACK_WAIT_S
_DEAD_AFTER_S = 2 * MAX_DELIVER * ACK_WAIT_S


class Exhausted(msgspec.Struct):
    """The broker's advisory that a message was delivered as often as it may be."""

    stream_seq: int
    deliveries: int = 0


class LostWork:
    """Settles dead chunks as declared fallbacks, and has vanished ones dispatched again."""

    def __init__(
        self,
        bus: Bus,
        owners: Mapping[int, ShardOwner],
        metrics: SchedulerMetrics,
    ) -> None:
        self._bus = bus
        self._owners = owners
        self._metrics = metrics

    async def exhausted(self, advisory: Exhausted, _: Request) -> None:
        """Handle the broker's advisory, if the chunk is ours."""
        for owner in list(self._owners.values()):
            dispatch = owner.dispatches.by_sequence(advisory.stream_seq)
            if dispatch is None:
                continue
            now = asyncio.get_running_loop().time()
            if dispatch.granted_to is not None and now - dispatch.touched < HEARD_S:
                continue  # its thinker lives: deliveries were used up by outages
            await self._bury(owner, dispatch, advisory.deliveries)

    async def run(self) -> None:
        """Look after chunks of which nothing was heard for long, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now = asyncio.get_running_loop().time()
            for owner in list(self._owners.values()):
                for dispatch in owner.dispatches.neglected(now, _NEGLECTED_S):
                    try:
                        await self._examine(owner, dispatch, now)
                    except BusError as error:
                        log.warning("not_examined", shard=owner.shard, error=str(error))

    async def _examine(self, owner: ShardOwner, dispatch: Dispatch, now: float) -> None:
        if dispatch.sequence is None:
            return
        held = await message_at(self._bus, streams.THINK, dispatch.sequence)
        if held is None:
            log.warning("work_vanished", shard=owner.shard, thoughts=len(dispatch.waiting))
            owner.dispatches.drop(dispatch)
        elif dispatch.granted_to is not None and now - dispatch.touched > _DEAD_AFTER_S:
            await self._bury(owner, dispatch, MAX_DELIVER)

    async def _bury(self, owner: ShardOwner, dispatch: Dispatch, deliveries: int) -> None:
        """Keep a copy, store the fallbacks, then delete: a crash in between repeats what is harmless."""
        assert dispatch.sequence is not None
        reason = f"given up after {deliveries} deliveries"
        log.warning("work_given_up", shard=owner.shard, thoughts=len(dispatch.waiting))
        body = msgspec.json.encode(dispatch.chunk)
        await bury(self._bus, streams.THINK, subjects.think(owner.shard), body, reason, deliveries)
        now = datetime.now(UTC)
        items = list(dispatch.waiting.values())
        await owner.submit([compose(item, dispatch.chunk.run, failed(reason), now) for item in items])
        owner.dispatches.drop(dispatch)
        await purge_message(self._bus, streams.THINK, dispatch.sequence)
        self._metrics.dead.inc()
