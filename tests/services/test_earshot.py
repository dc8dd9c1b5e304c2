"""Silence is told from deafness: of the broker, of the connection, and of this process itself [3.3]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import sleep

import pytest

from libs.bus.connection import Bus, connect
from libs.bus.telemetry import NoTelemetry
from libs.concurrency.tasks import Background
from services.scheduler.earshot import _DEAF_S, Earshot
from tests.support.broker import Broker
from tests.support.eventually import eventually

pytestmark = pytest.mark.fact("3.3")


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def listening(bus: Bus) -> AsyncIterator[Earshot]:
    """An earshot at work."""
    earshot = Earshot(bus)
    async with Background() as tasks:
        tasks.create_task(earshot.run(), name="earshot")
        yield earshot


async def hears(earshot: Earshot, at: float) -> float:
    """Return since when all is heard that comes later than this time, once it is so without a break."""

    async def heard() -> float | None:
        since = earshot.since()
        await asyncio.sleep(2 * _DEAF_S)
        return since if since >= at and earshot.since() == since else None

    return await eventually(heard) or 0.0


def is_deaf(earshot: Earshot) -> bool:
    began = now()
    return began <= earshot.since() <= now()


async def test_while_messages_come_the_time_since_when_does_not_move(bus: Bus) -> None:
    async with listening(bus) as earshot:
        assert await hears(earshot, earshot.since()) < now() - _DEAF_S


async def test_a_broker_that_is_stopped_lets_nobody_be_heard(broker: Broker) -> None:
    async with connect(broker.url, "scheduler", NoTelemetry()) as bus, listening(bus) as earshot:
        broker.pause()
        try:
            await asyncio.sleep(2 * _DEAF_S)
            assert is_deaf(earshot)
        finally:
            resumed = now()
            broker.resume()
        assert await hears(earshot, resumed) >= resumed


async def test_after_a_reconnect_all_is_heard_anew_however_short_it_was(broker: Broker) -> None:
    """What was said to the broker that was killed is lost."""
    async with connect(broker.url, "scheduler", NoTelemetry()) as bus, listening(bus) as earshot:
        number = bus.connection
        killed = now()
        broker.kill()
        broker.start()
        assert await hears(earshot, killed) > killed
        assert bus.connection == number + 1


async def test_before_anything_comes_by_a_new_connection_it_is_known_for_another(broker: Broker) -> None:
    """A question that comes the moment the connection is back must not find everybody silent."""
    async with connect(broker.url, "scheduler", NoTelemetry()) as bus, listening(bus) as earshot:
        since: list[tuple[float, float]] = []

        async def asked(_: object) -> None:
            since.append((earshot.since(), now()))

        await bus.subscribe("asked", asked)
        broker.kill()
        killed = now()
        broker.start()
        async with connect(broker.url, "thinker", NoTelemetry()) as other:

            async def answered() -> bool:
                await other.client.publish("asked")
                return bool(since)

            await eventually(answered)
        assert killed < since[0][0] <= since[0][1]


async def test_a_process_that_stood_still_has_heard_nobody_meanwhile(bus: Bus) -> None:
    async with listening(bus) as earshot:
        sleep(1.5 * _DEAF_S)  # noqa: ASYNC251 - the whole process stands
        assert is_deaf(earshot), "before it has read anything"
        woke = now()
        assert await hears(earshot, woke) >= woke
