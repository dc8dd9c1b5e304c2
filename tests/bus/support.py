"""What tests on a real broker share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from libs.bus.connection import Bus
from libs.bus.read import Stored, next_of
from libs.bus.telemetry import BusFault, MessageHandled
from tests.support.broker import Broker
from tests.support.eventually import WITHIN_S, eventually


class Noted:
    """Telemetry that remembers."""

    def __init__(self) -> None:
        self.details: list[MessageHandled] = []
        self.faults: list[BusFault] = []

    def handled(self, details: MessageHandled) -> None:
        self.details.append(details)

    def fault(self, details: BusFault) -> None:
        self.faults.append(details)

    @property
    def outcomes(self) -> list[str]:
        return [details.outcome for details in self.details]


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks that are cancelled when the context ends; one that has failed by then fails the test."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def held(bus: Bus, stream: str, subject: str = ">") -> list[Stored]:
    """Everything that a stream holds of some subjects, asked of its leader."""
    found: list[Stored] = []
    while (
        message := await next_of(bus, stream, subject, found[-1].sequence + 1 if found else 1)
    ) is not None:
        found.append(message)
    return found


def kill_while_paused(broker: Broker) -> None:
    """kill -9 of a stopped broker: it does not run again for a moment before it dies."""
    assert broker._process is not None
    broker._process.kill()
    broker._process.wait()
    broker.kill()


async def restart(broker: Broker) -> None:
    """kill -9 and start again on the same store."""
    broker.kill()
    await asyncio.to_thread(broker.start)


async def until(check: Callable[[], Any], within: float = WITHIN_S, what: str = "it") -> None:
    """`eventually` for a check that asks the broker."""
    await eventually(check, within, what)
