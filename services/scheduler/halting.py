"""Ending a run on one shard [4.2]: what never began is withdrawn, what is being thought gets its grace."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog

from libs.bus.connection import Bus
from libs.bus.queue import purge_message
from libs.cognition.compose import WITHDRAWN, compose, failed
from libs.contracts import streams, subjects
from libs.contracts.journal import Halted, ThoughtEntry
from libs.contracts.limits import STOP_GRACE_MS
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import ShardOwner

log = structlog.get_logger("halting")

_LOOK_S = 0.01


async def halt_shard(bus: Bus, owner: ShardOwner, run: int, metrics: SchedulerMetrics) -> None:
    """Settle what is under way, refuse the run from here on, and say so to the registry.

    A thought that outlasts the grace is stored as the declared fallback with the error `withdrawn`, so that
    its late original can no longer be.
    """
    for dispatch in owner.dispatches.drop_ungranted(run):
        if dispatch.sequence is not None:
            await purge_message(bus, streams.THINK, dispatch.sequence)
    await _until_settled(owner, run)
    left = _withdrawn(owner, run)
    if left:
        metrics.withdrawn.inc(len(left))
        await owner.submit(left)
    await owner.halt(run)
    for dispatch in owner.dispatches.of_run(run):
        owner.dispatches.abandon(dispatch)
    await bus.note(subjects.HALTED, Halted(run=run, shards=[owner.shard]))


async def _until_settled(owner: ShardOwner, run: int) -> None:
    try:
        async with asyncio.timeout(STOP_GRACE_MS / 1000):
            while owner.dispatches.of_run(run):  # noqa: ASYNC110 - settled by folds, which signal nobody
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        log.info("grace_over", shard=owner.shard, in_flight=len(owner.dispatches))


def _withdrawn(owner: ShardOwner, run: int) -> list[ThoughtEntry]:
    now = datetime.now(UTC)
    return [
        compose(due.tried(), run, failed(WITHDRAWN), now)
        for dispatch in owner.dispatches.of_run(run)
        for due in dispatch.waiting.values()
    ]
