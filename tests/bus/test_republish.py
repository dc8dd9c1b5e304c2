"""Subscribers of the public subjects see what was stored, and nothing else."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.msg import Msg

from libs.bus.connection import Bus
from libs.bus.errors import WrongLastSequence
from libs.contracts import subjects
from tests.bus.support import held


async def subscribed(bus: Bus, subject: str) -> asyncio.Queue[Msg]:
    seen: asyncio.Queue[Msg] = asyncio.Queue()

    async def receive(message: Msg) -> None:
        seen.put_nowait(message)

    await bus.client.subscribe(subject, cb=receive)
    return seen


@pytest.mark.fact("3.14")
async def test_a_stored_event_is_published_under_its_public_subject(bus: Bus) -> None:
    seen = await subscribed(bus, "perpetua.events.swarm-core.>")
    subject = subjects.event_in("swarm-core", "p", "check_result")
    await bus.publish(subject, b"{}", {"P": "1.1"})
    message = await asyncio.wait_for(seen.get(), 30)
    assert message.subject == "perpetua.events.swarm-core.p.check_result"
    assert message.data == b"{}"
    assert message.headers is not None
    assert (message.headers["Nats-Sequence"], message.headers["P"]) == ("1", "1.1")
    assert [stored.subject for stored in await held(bus, "EVENTS")] == [message.subject]


@pytest.mark.fact("3.3")
async def test_an_event_that_is_refused_is_seen_by_nobody(bus: Bus) -> None:
    seen = await subscribed(bus, "perpetua.events.>")
    subject = subjects.event_in(None, None, "check_result")
    with pytest.raises(WrongLastSequence):
        await bus.publish(subject, b"refused", {"Nats-Expected-Last-Sequence": "9"})
    await bus.publish(subject, b"stored", {"Nats-Expected-Last-Sequence": "0"})
    assert (await asyncio.wait_for(seen.get(), 30)).data == b"stored"
    assert seen.empty()


async def test_an_event_published_past_the_stream_is_not_stored(bus: Bus) -> None:
    """A stranger's message on the public subject reaches subscribers, but no client of the stream."""
    await bus.client.publish(subjects.event(None, None, "check_result"), b"forged")
    await bus.client.flush()
    assert await held(bus, "EVENTS") == []


async def test_a_gap_is_visible_to_a_subscriber(bus: Bus) -> None:
    seen = await subscribed(bus, "perpetua.events.*.b.>")
    for name in ("b", "a", "b"):
        await bus.publish(subjects.event_in("s", name, "check_result"), b"{}", {"P": "1.1"})
    first, second = [await asyncio.wait_for(seen.get(), 30) for _ in range(2)]
    assert first.headers is not None
    assert second.headers is not None
    assert (first.headers["Nats-Sequence"], second.headers["Nats-Sequence"]) == ("1", "3")
    assert second.headers["Nats-Last-Sequence"] == "1"
