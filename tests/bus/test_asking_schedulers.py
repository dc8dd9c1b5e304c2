"""A scheduler that is busy, and one that is gone [4.3]."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from libs.bus.connection import Bus
from libs.bus.schedulers import ask_schedulers
from libs.contracts import subjects
from libs.contracts.work import SchedulerStatus

STATUS = SchedulerStatus(instance="s", ticking=True, run=1, last_tick_at=None, shards=64, personas=1)
BUSY_S = 1.0


@pytest.fixture
async def busy(bus: Bus) -> AsyncIterator[None]:
    """A scheduler that answers late."""
    there = await bus.client.subscribe(subjects.SCHEDULER_STATUS)

    async def answer() -> None:
        async for message in there.messages:
            await asyncio.sleep(BUSY_S)
            await message.respond(msgspec.json.encode(STATUS))

    answering = asyncio.create_task(answer())
    yield
    answering.cancel()


async def test_whoever_is_known_to_live_gets_time_to_answer(bus: Bus, busy: None) -> None:
    assert await ask_schedulers(bus, living=1) == [STATUS], "else the loop would be said not to run"


async def test_whoever_is_not_known_to_live_is_not_waited_for_as_long(bus: Bus, busy: None) -> None:
    assert await ask_schedulers(bus) == []


async def test_the_broker_says_at_once_that_nobody_is_there(bus: Bus) -> None:
    began = time.monotonic()
    assert await ask_schedulers(bus, living=1) == []
    assert time.monotonic() - began < BUSY_S
