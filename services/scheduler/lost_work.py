"""Work that will not come back by itself: dead letters, and chunks that vanished from the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

import msgspec
import structlog

from libs.bus.connection import Bus
from libs.bus.endpoints import Request
from libs.bus.errors import BusError
from libs.bus.loop import Postpone
from libs.bus.queue import bury, last_delivered, purge_message
from libs.bus.read import message_at
from libs.cognition.compose import compose, failed
from libs.contracts import streams, subjects
from libs.contracts.limits import ACK_WAIT_S, MAX_DELIVER
from libs.contracts.work import GivenUp
from services.scheduler.dispatches import HEARD_S, Dispatch
from services.scheduler.dispatching import chunk_of
from services.scheduler.due import Due
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner
from services.scheduler.soon import soon

log = structlog.get_logger("lost-work")

_LOOK_S = 5.0
_JUDGE_S = 1.0
_NEGLECTED_S = 3 * ACK_WAIT_S
_SILENT_S = 2 * MAX_DELIVER * ACK_WAIT_S
"""After so many seconds the broker has delivered for the last time, and who thinks has long said so."""


class Exhausted(msgspec.Struct):
    """The broker's advisory that a message was delivered as often as it may be."""

    stream_seq: int
    deliveries: int = 0


class Hearing(Protocol):
    """When others can be heard; `Earshot`."""

    def since(self) -> float:
        """Return the monotonic time since which they can be without a break."""

    def heard_for(self, at: float) -> float:
        """Return for how many seconds since a monotonic time they could be."""


class LostWork:
    """Settles dead chunks as declared fallbacks, and dispatches again what vanished or fell silent."""

    def __init__(
        self,
        bus: Bus,
        owners: Mapping[int, ShardOwner],
        publish: Callable[[ShardOwner, Dispatch], Awaitable[None]],
        metrics: SchedulerMetrics,
        tasks: asyncio.TaskGroup,
        earshot: Hearing,
    ) -> None:
        self._bus = bus
        self._owners = owners
        self._publish = publish
        self._metrics = metrics
        self._tasks = tasks
        self._earshot = earshot
        self._burying: dict[str, asyncio.Task[bool]] = {}
        """By chunk."""

    async def exhausted(self, advisory: Exhausted, _: Request) -> None:
        """Handle the broker's advisory, if the chunk is ours."""
        for owner in list(self._owners.values()):
            dispatch = owner.dispatches.by_sequence(advisory.stream_seq)
            if dispatch is None:
                continue
            if self._may_live(dispatch):  # deliveries were used up by outages; the broker says so only once
                self._tasks.create_task(self._judge_later(owner, dispatch), name="judge-later")
                continue
            dispatch.attempts += 1  # perhaps thinkers end before they ask for it
            await self.suspected(owner, dispatch)

    def _may_live(self, dispatch: Dispatch) -> bool:
        """Whether who was granted a chunk was heard of just now, or could not be."""
        silence = dispatch.silence(asyncio.get_running_loop().time(), self._earshot.since())
        return dispatch.granted_to is not None and silence < HEARD_S

    async def _judge_later(self, owner: ShardOwner, dispatch: Dispatch) -> None:
        """Suspect a chunk that is delivered no more, once its thinker is silent; not where it speaks."""
        touched = dispatch.touched
        while self._may_live(dispatch):
            await asyncio.sleep(_JUDGE_S)
            ours = self._owners.get(owner.shard) is owner and owner.dispatches.knows(dispatch.chunk.id)
            if not ours or dispatch.touched != touched:
                return
        dispatch.attempts += 1
        try:
            await self.suspected(owner, dispatch)
        except (BusError, Postpone) as error:  # `look` comes upon it
            log.warning("not_judged", shard=owner.shard, error=str(error))

    async def suspected(self, owner: ShardOwner, dispatch: Dispatch) -> None:
        """Give up, or dispatch again each thought alone, a chunk that thinkers have ended over.

        A thought that ends its thinker takes whatever lies beside it along; alone, it takes nothing. Raises
        `Postpone` where that is not done yet.
        """
        if dispatch.attempts >= MAX_DELIVER:
            return await self._give_up(owner, dispatch)
        log.warning("work_taken_apart", shard=owner.shard, thoughts=len(dispatch.waiting))
        await self._again(owner, dispatch, [[due] for due in dispatch.waiting.values()], alone=True)
        return None

    async def _again(
        self, owner: ShardOwner, dispatch: Dispatch, parts: list[list[Due]], *, alone: bool
    ) -> None:
        """Dispatch a chunk's thoughts anew in other messages, then delete its own.

        All are entered before the first is sent: a tick would dispatch what is not under way a second time.
        """
        owner.dispatches.drop(dispatch)
        now = asyncio.get_running_loop().time()
        begun: list[Dispatch] = []
        for dues in parts:
            chunk = chunk_of(owner.shard, dispatch.chunk.run, dues, alone=alone)
            again = owner.dispatches.begin(chunk, dues, now)
            again.attempts, again.begun = dispatch.attempts, dispatch.begun
            begun.append(again)
        for again in begun:
            await self._publish(owner, again)
        if dispatch.sequence is not None:
            await purge_message(self._bus, streams.THINK, dispatch.sequence)

    async def run(self) -> None:
        """Look after chunks of which nothing was heard for long, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Look once after the chunks of which nothing was heard for long."""
        for owner in list(self._owners.values()):
            try:
                await self._look_after(owner)
            except BusError as error:
                log.warning("not_examined", shard=owner.shard, error=str(error))

    async def _look_after(self, owner: ShardOwner) -> None:
        neglected = owner.dispatches.neglected(self._earshot.heard_for, _NEGLECTED_S)
        if not neglected:
            return
        delivered = await last_delivered(self._bus, streams.THINK, streams.THINKERS)
        for dispatch in neglected:
            await self._examine(owner, dispatch, delivered)

    async def _examine(self, owner: ShardOwner, dispatch: Dispatch, delivered: int) -> None:
        """Drop a chunk that is gone, and dispatch anew one that may never be delivered again.

        The broker does not tell how often a message was delivered. What it has never delivered waits for its
        thinker, however long that takes. Others it may have given up unnoticed: their thoughts go into a
        fresh message. That counts as no attempt: age says nothing of a thought. At worst it is thought twice.
        """
        if dispatch.sequence is None:
            return
        held = await message_at(self._bus, streams.THINK, dispatch.sequence)
        if held is None:
            log.warning("work_vanished", shard=owner.shard, thoughts=len(dispatch.waiting))
            owner.dispatches.abandon(dispatch)
        elif not dispatch.waiting:
            owner.dispatches.drop(dispatch)
            await purge_message(self._bus, streams.THINK, dispatch.sequence)
        elif dispatch.sequence <= delivered and self._earshot.heard_for(dispatch.touched) > _SILENT_S:
            log.warning("work_renewed", shard=owner.shard, thoughts=len(dispatch.waiting))
            dues = list(dispatch.waiting.values())
            await self._again(owner, dispatch, [dues], alone=dispatch.chunk.alone)

    async def _give_up(self, owner: ShardOwner, dispatch: Dispatch) -> None:
        """Bury a chunk once, however often that is asked for meanwhile, and however long it takes."""
        chunk = dispatch.chunk.id
        if chunk not in self._burying:
            self._burying[chunk] = self._tasks.create_task(self._buried(owner, dispatch), name="bury")
        if not await soon("giving it up", self._burying[chunk]):
            raise Postpone("it could not be given up")

    async def _buried(self, owner: ShardOwner, dispatch: Dispatch) -> bool:
        """Bury a chunk; whether it is done."""
        try:
            await self._bury(owner, dispatch)
        except BusError as error:
            log.warning("not_buried", shard=owner.shard, error=str(error))
            return False
        finally:
            self._burying.pop(dispatch.chunk.id)
        return True

    async def _bury(self, owner: ShardOwner, dispatch: Dispatch) -> None:
        """Keep a copy, store the fallbacks, then delete: a crash in between repeats what is harmless."""
        deliveries = max(dispatch.attempts, 1)
        reason = f"given up after {deliveries} deliveries: whoever thought of it ended, or fell silent"
        log.warning("work_given_up", shard=owner.shard, thoughts=len(dispatch.waiting))
        dues = list(dispatch.waiting.values())
        whole = [due.whole() for due in dues]
        body = msgspec.json.encode(GivenUp(shard=owner.shard, run=dispatch.chunk.run, items=whole))
        await bury(self._bus, streams.THINK, subjects.think(owner.shard), body, reason, deliveries)
        now = datetime.now(UTC)
        await owner.submit([compose(due.tried(), dispatch.chunk.run, failed(reason), now) for due in dues])
        owner.dispatches.abandon(dispatch)
        if dispatch.sequence is not None:
            await purge_message(self._bus, streams.THINK, dispatch.sequence)
        self._metrics.dead.inc()
