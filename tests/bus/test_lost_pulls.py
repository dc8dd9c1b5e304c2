"""Pulls that the broker has lost while the connection lasted: they went to another broker of its cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from libs.bus.connection import Bus, connect
from libs.bus.errors import BusError
from libs.bus.loop import Done
from libs.bus.provision import provision
from libs.bus.queue import Puller, Work
from libs.bus.telemetry import NoTelemetry
from libs.contracts import streams
from libs.contracts.streams import StreamBounds
from tests.bus.support import running, until
from tests.chaos.brokers import Brokers, Node
from tests.support.eventually import eventually

_WITHIN_S = 30.0
"""Three heartbeats, what the broker needs to lead its stream again, and a machine that stalls."""


@asynccontextmanager
async def beside_the_queue(folder: Path) -> AsyncIterator[tuple[Bus, Node]]:
    """A connection to another broker than the one that has the work queue, and that one."""
    brokers = Brokers(folder, 3, disk=False, sync_always=False)
    try:
        await brokers.start()
        async with connect(brokers.nodes[0].url, "provision", NoTelemetry()) as bus:
            await until(lambda: provisioned(bus))
            info = await bus.api(f"STREAM.INFO.{streams.THINK}")
        has_it = brokers.named(info["cluster"]["leader"])
        other = next(node for node in brokers.nodes if node is not has_it)
        async with connect(other.url, "puller", NoTelemetry()) as bus:
            yield bus, has_it
    finally:
        brokers.close()


async def provisioned(bus: Bus) -> bool:
    try:
        await provision(bus, StreamBounds(replicas=1))
    except BusError:
        return False
    return True


async def pulls_wait(bus: Bus) -> bool:
    return bool((await bus.api(f"CONSUMER.INFO.{streams.THINK}.{streams.THINKERS}"))["num_waiting"])


async def stored(bus: Bus) -> bool:
    try:
        await bus.publish("think.3", b"a")
    except BusError:
        return False
    return True


@pytest.mark.fact("3.3")
async def test_work_comes_although_whoever_had_the_pulls_is_gone_and_changes_of_room_keep_us_busy(
    tmp_path: Path,
) -> None:
    """It came after 15 s without a change of room; each change put that off, and so it might never come."""
    works: list[Work] = []

    async def take(work: Work) -> None:
        works.append(work)
        await work.settle(Done())

    async with beside_the_queue(tmp_path) as (bus, has_it):
        puller = Puller(bus, streams.THINK, streams.THINKERS, lambda: 100, take)

        async def keep_busy() -> None:
            while True:
                await asyncio.sleep(0.5)
                puller.room_changed()

        async with running(puller.run(), keep_busy()):
            await until(lambda: pulls_wait(bus))
            has_it.kill()
            await has_it.start()
            await until(lambda: stored(bus))
            await eventually(lambda: works, _WITHIN_S)
            assert bus.connected
