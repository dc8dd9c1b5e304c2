"""How far the journal is public is said when that moves, and again for whoever comes late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import msgspec
import pytest
from nats.aio.msg import Msg

from libs.bus.connection import Bus
from libs.contracts import subjects
from services.compressor import publishing as rules
from tests.services.publishers import Publisher, prefill, publishing, through
from tests.support.eventually import eventually


@asynccontextmanager
async def heard(bus: Bus) -> AsyncIterator[list[tuple[float, int]]]:
    """When which position is said while the context is open."""
    said: list[tuple[float, int]] = []
    clock = asyncio.get_running_loop().time

    async def receive(message: Msg) -> None:
        said.append((clock(), msgspec.json.decode(message.data)["sequence"]))

    async with bus.subscribed(subjects.POSITION, receive):
        yield said


async def test_the_position_is_said_at_once_when_it_moves(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when it would be repeated: here that is after a minute."""
    monkeypatch.setattr(rules, "_REPEAT_S", 60.0)
    monkeypatch.setattr(rules, "_REPEAT_MOST_S", 60.0)
    one = Publisher(bus)
    async with heard(bus) as said, publishing(one):
        for begin in (1, 3):
            last = await prefill(bus, 2, begin=begin)
            await through(one, last)
            await eventually(lambda: said and said[-1][1] == last, 30, "the position")  # noqa: B023


async def test_the_position_is_said_seldom_while_nothing_moves(bus: Bus) -> None:
    """Whoever comes late hears it within two seconds, if nothing stands still meanwhile."""
    clock = asyncio.get_running_loop().time
    last = await prefill(bus, 2)
    one = Publisher(bus)
    async with heard(bus) as said, publishing(one):
        await through(one, last)
        await eventually(lambda: said and said[-1][1] == last, what="the position")
        begin, stood_still = clock(), 0.0
        while (now := clock()) < begin + 6 + stood_still:
            await asyncio.sleep(0.05)
            stood_still += max(clock() - now - 0.1, 0.0)
        times = [begin, *(at for at, _ in said if at > begin), clock()]
    assert len(times) - 2 <= 6
    assert max(b - a for a, b in pairwise(times)) < 3.0 + stood_still, "the next pause would be of four"
