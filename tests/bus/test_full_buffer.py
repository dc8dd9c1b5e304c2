"""While the broker is away the client keeps what is sent, up to a bound. Nothing ends by reaching it.

Found by reading: an answer, or a read, that came upon the full buffer ended its process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from libs.bus.connection import Bus, connect
from libs.bus.endpoints import Request
from libs.bus.errors import NoAnswer, OutcomeUnknown
from libs.bus.loop import Done
from libs.bus.publisher import Publisher
from libs.bus.read import batch
from libs.bus.schedulers import ask_schedulers
from libs.bus.telemetry import NoTelemetry
from libs.contracts.journal import Position
from libs.contracts.refusals import Unavailable
from tests.support.broker import Broker
from tests.support.eventually import eventually


@pytest.fixture
async def full(broker: Broker) -> AsyncIterator[Bus]:
    """A connection that is lost, and keeps nothing of what is sent."""
    async with connect(broker.url, "test", NoTelemetry(), options={"pending_size": 0}) as bus:
        broker.kill()
        await eventually(lambda: not bus.connected, what="the loss of the connection")
        yield bus


async def test_an_answer_is_lost_and_said(full: Bus) -> None:
    async def respond(data: bytes, headers: dict[str, str] | None) -> None:
        await full.client.publish("_INBOX.x.y", data, headers=headers)

    with capture_logs() as logs:
        await Request("svc.here", b"", respond).settle(Done(b"yes"))
    assert [(entry["event"], entry["subject"]) for entry in logs if entry["event"] == "answer_lost"] == [
        ("answer_lost", "svc.here")
    ]


async def test_whoever_asks_hears_that_there_is_no_answer(full: Bus) -> None:
    with pytest.raises(NoAnswer, match="outbound buffer limit"):
        await batch(full, "JOURNAL", {"seq": 1, "batch": 1})
    with pytest.raises(Unavailable, match=r"no answer on svc\.here"):
        await full.ask("svc.here", Position(sequence=1), Position, timeout=30.0)
    assert await ask_schedulers(full) == []
    await full.note("svc.here", Position(sequence=1))


async def test_a_publish_that_waited_for_room_is_not_sent(bus: Bus, broker: Broker) -> None:
    publisher = Publisher(bus.client, max_outstanding=1, deadline=60.0)
    await publisher.open(bus.guarded, bus.crashed)
    await bus.client.subscribe("heard")  # by somebody who acknowledges nothing
    first = await publisher.send("heard", b"a")
    waits = asyncio.create_task(publisher.send("j.1", b"b"))
    await asyncio.sleep(0)
    assert not waits.done()
    broker.kill()
    await eventually(lambda: not bus.connected, what="the loss of the connection")
    publisher.fail_outstanding("the connection was lost")
    for lost in (first, waits):
        with pytest.raises(OutcomeUnknown):
            await lost
    assert publisher.outstanding == 0
    await publisher.close()
