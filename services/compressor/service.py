"""The compressor's composition and lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from libs.bus.errors import BusError
from libs.bus.presence import Peers, in_charge
from libs.concurrency.tasks import Background
from libs.contracts.presence import BootSummary
from libs.runtime.process import Process, versions
from services.compressor.metrics import CompressorMetrics
from services.compressor.publishing import Publishing
from services.compressor.rolling import Rolling
from services.compressor.rollups import RollUps

log = structlog.get_logger("compressor")

_FLUSH_WITHIN_S = 3.0


@asynccontextmanager
async def lifespan(process: Process) -> AsyncIterator[None]:
    """Publish, or stand by for the compressor that does; drain by publishing what the journal holds."""
    peers = Peers(process.bus, "compressor", process.presence.subject)
    metrics = CompressorMetrics(process.metrics)
    interval_s = process.settings.roll_up_interval_ms / 1000
    rollups = RollUps(interval_s)
    charge = in_charge(peers, "compressor", process.settings.instance)
    publishing = Publishing(
        process.bus,
        charge,
        metrics,
        lambda record, sequence: rolling.note(record, sequence),
        lambda position: process.did(f"published the journal up to {position}"),
    )
    metrics.in_charge.set_function(publishing.publishes.is_set)
    rolling = Rolling(process.bus, rollups, interval_s, publishing.publishes.is_set, charge, metrics)
    await peers.prime()
    async with Background() as tasks:
        tasks.create_task(peers.run(), name="peers")
        tasks.create_task(publishing.run(), name="publish")
        tasks.create_task(rolling.run(), name="roll-up")
        process.set_ready(
            BootSummary(service="compressor", hosted=1, versions=versions("nats-py", "msgspec"))
        )
        yield
        try:
            async with asyncio.timeout(_FLUSH_WITHIN_S):
                await publishing.flush()
        except (TimeoutError, BusError) as error:
            log.warning("left_to_the_next", error=str(error) or "timed out", behind=publishing.position)
