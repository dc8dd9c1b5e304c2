"""Having swarms' memories rolled up: a model's word for each, then the journal's [A18]."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from libs.bus.connection import Bus
from libs.bus.errors import UNREADABLE
from libs.concurrency.tasks import Tasks
from libs.concurrency.waiting import set_within
from libs.contracts import subjects
from libs.contracts.journal import PublicRecord
from libs.contracts.place import Place
from libs.contracts.refusals import Refusal, Unavailable
from libs.contracts.rollups import RollUpAnswer, RollUpReply, RollUpRequest, SummaryReply, SummaryRequest
from libs.contracts.tokens import shard_of
from services.compressor.metrics import CompressorMetrics
from services.compressor.rollups import RollUps, Taken, rolled_up

log = structlog.get_logger("rolling")

AT_ONCE = 4
"""Swarms that are rolled up side by side."""

ADMITTED_WITHIN_S = 10.0
SUMMARY_WITHIN_S = 30.0
STORED_WITHIN_S = 30.0
_OWNER_ANSWERS_WITHIN_S = 5.0
_LOOK_MOST_S = 1.0
_REST_MOST_S = 5.0
_AGAIN_S = 0.5
_ON_ITS_WAY_S = 0.5
"""How long a summary that was made in time may be on its way."""


class Rolling:
    """Rolls up what is due while this compressor publishes."""

    def __init__(
        self,
        bus: Bus,
        rollups: RollUps,
        interval_s: float,
        publishes: Callable[[], bool],
        in_charge: Callable[[], bool],
        metrics: CompressorMetrics,
    ) -> None:
        self._bus = bus
        self._rollups = rollups
        self._look_s = min(interval_s / 4, _LOOK_MOST_S)
        self._publishes = publishes
        self._in_charge = in_charge
        self._metrics = metrics
        self._clock = asyncio.get_running_loop().time
        self._wake = asyncio.Event()

    def note(self, record: PublicRecord, sequence: int) -> None:
        """Take note of a record of the journal. Repeated, it changes nothing."""
        self._rollups.note(record, sequence)
        if self._rollups.waiting:
            self._wake.set()

    async def run(self) -> None:
        """Roll up what is due, until cancelled."""
        while True:
            self._wake.clear()
            if not self._rollups.waiting:
                await set_within(self._wake, _REST_MOST_S)
            await asyncio.sleep(self._look_s)
            if not self._in_charge():
                self._rollups.forget()
            self._metrics.left_out(self._rollups.left_out())
            if not self._publishes():
                continue  # a session that begins anew passes over the snapshots that were noted
            for swarm_ids in _in_parts(self._rollups.due(self._clock())):
                async with Tasks() as tasks:
                    for swarm_id in swarm_ids:
                        taken = self._rollups.take(swarm_id, self._clock())
                        tasks.create_task(self._roll_up(taken), name="roll-up-swarm")

    async def _roll_up(self, taken: Taken) -> None:
        """Roll up what was taken; what others have not folded in, where they have some of it, comes again."""
        request = await self._made(taken)
        if not isinstance(request, RollUpRequest):
            return self._overtaken(taken, request)
        reply = await self._stored(request)
        if reply is not None and reply.behind is not None:
            return self._overtaken(taken, reply.behind)
        stored = reply is not None
        self._metrics.rolled_up(request, stored=stored)
        log.debug("rolled_up", swarm=taken.swarm_id, snapshots=request.cold_snapshot_count, stored=stored)
        return None

    def _overtaken(self, taken: Taken, behind: Place) -> None:
        log.info("rolled_up_by_another", swarm=taken.swarm_id, snapshots=len(taken.snapshots), behind=behind)
        self._rollups.put_back(taken, behind)

    async def _made(self, taken: Taken) -> RollUpRequest | Place:
        """Return what is to be journaled, or the place up to which others have folded snapshots in."""
        if not taken.by_model:
            return rolled_up(taken, None)
        try:
            answer = await self._admitted(taken)
            if answer.behind is not None:
                return answer.behind
            if answer.refused is None:
                return rolled_up(taken, await self._summary(taken), terms=answer.terms)
            error = answer.refused
        except Refusal as refusal:
            error = refusal.detail
        log.info("rolled_up_without_model", swarm=taken.swarm_id, error=error)
        return rolled_up(taken, None, error)

    async def _admitted(self, taken: Taken) -> RollUpAnswer:
        """Return whether a model may be asked. Raises `Refusal` where nobody says so in time."""
        subject = subjects.roll_up_credits(shard_of(taken.swarm_id))
        deadline = self._clock() + ADMITTED_WITHIN_S
        while True:
            try:
                left = deadline - self._clock()
                return await self._bus.ask(subject, taken.ask(), RollUpAnswer, timeout=left)
            except UNREADABLE as error:
                raise Unavailable(f"not asked for a summary: {error}") from error
            except Unavailable:
                if deadline - self._clock() < 2 * _AGAIN_S:
                    raise
                await asyncio.sleep(_AGAIN_S)

    async def _summary(self, taken: Taken) -> SummaryReply:
        """Return a model's summary. Raises `Refusal` where none comes in time."""
        deadline = self._clock() + SUMMARY_WITHIN_S
        while True:
            left = deadline - self._clock()
            request = SummaryRequest(
                swarm_id=taken.swarm_id,
                snapshots=taken.snapshots,
                within_ms=round((left - _ON_ITS_WAY_S) * 1000),
            )
            try:
                return await self._bus.ask(subjects.SUMMARIES, request, SummaryReply, timeout=left)
            except UNREADABLE as error:
                raise Unavailable(f"no summary: {error}") from error
            except Unavailable:  # busy, or nobody there: thinkers come and go
                if deadline - self._clock() < 2 * _ON_ITS_WAY_S:
                    raise
                await asyncio.sleep(_AGAIN_S)

    async def _stored(self, request: RollUpRequest) -> RollUpReply | None:
        """Have the swarm's owner journal a roll-up; None where none could be had to."""
        subject = subjects.roll_up(shard_of(request.swarm_id))
        deadline = self._clock() + STORED_WITHIN_S
        while True:
            try:
                return await self._bus.ask(subject, request, RollUpReply, timeout=_OWNER_ANSWERS_WITHIN_S)
            except Unavailable as error:
                if self._clock() > deadline:
                    log.warning("roll_up_not_stored", swarm=request.swarm_id, error=error.detail)
                    return None
                await asyncio.sleep(_AGAIN_S)
            except UNREADABLE as error:
                log.warning("roll_up_not_stored", swarm=request.swarm_id, error=str(error))
                return None
            except Refusal as error:
                log.warning("roll_up_refused", swarm=request.swarm_id, error=error.detail)
                return None


def _in_parts(swarm_ids: list[str]) -> list[list[str]]:
    return [swarm_ids[begin : begin + AT_ONCE] for begin in range(0, len(swarm_ids), AT_ONCE)]
