"""A thinker is ready once it has asked for work, not before [H1]."""

from __future__ import annotations

import asyncio

import pytest

from libs.bus.connection import Bus
from libs.bus.presence import list_present
from libs.bus.queue import Puller
from tests.services.crashing import Running
from tests.support.broker import Broker
from tests.support.eventually import eventually


async def pulls(bus: Bus) -> int:
    """How many pulls wait for work."""
    return int((await bus.api("CONSUMER.INFO.THINK.thinkers"))["num_waiting"])


@pytest.mark.fact("H1")
async def test_a_thinker_that_cannot_ask_for_work_yet_is_not_ready(
    bus: Bus, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking, may_ask, ask = asyncio.Event(), asyncio.Event(), Puller._ask

    async def slowly(puller: Puller, inbox: str, count: int) -> None:
        asking.set()
        await may_ask.wait()
        await ask(puller, inbox, count)

    monkeypatch.setattr(Puller, "_ask", slowly)
    run = Running("thinker", broker.url)
    try:
        await asyncio.wait_for(asking.wait(), 30)

        async def there() -> bool:
            return [(one.ready, one.not_ready_because) for one in await list_present(bus)] == [
                (False, "starting")
            ]

        await eventually(there, what="it says that it starts")
        assert await pulls(bus) == 0
        may_ask.set()
        process = (await run.until_ready()).process
        await eventually(lambda: pulls(bus), what="the broker has what was sent over another connection")
        assert await pulls(bus) == 1
        assert process is not None
        assert process.health.ready
    finally:
        await run.close()
