"""Findings that count only where the machine had time for what was looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from libs.bus.connection import Bus
from libs.concurrency.tasks import beside

T = TypeVar("T")

_TRIES = 5


class Pause:
    """The longest time for which this process, or its broker, did nothing."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._at = self._clock()
        self.longest = 0.0

    def over(self) -> None:
        now = self._clock()
        self.longest = max(self.longest, now - self._at)
        self._at = now


@asynccontextmanager
async def pausing(bus: Bus) -> AsyncIterator[Pause]:
    """The longest pause while the context is open."""
    pause = Pause()

    async def look() -> None:
        while True:
            await bus.client.flush(timeout=60)
            pause.over()
            await asyncio.sleep(0.02)

    async with beside(look(), "look"):
        yield pause
    pause.over()


async def without_pause(bus: Bus, most: float, attempt: Callable[[], Awaitable[T]]) -> T:
    """Return what an attempt finds in which nothing stood still for so many seconds: one of five."""
    for _ in range(_TRIES):
        async with pausing(bus) as pause:
            found = await attempt()
        if pause.longest < most:
            break
    return found
