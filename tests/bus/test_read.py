"""Reading single messages from a stream's leader, and batches."""

from __future__ import annotations

import asyncio

import pytest

from libs.bus.connection import Bus
from libs.bus.errors import ApiRefused, NoAnswer
from libs.bus.read import all_held, batch, last_of, message_at, next_of, stream_state
from libs.contracts import subjects
from libs.contracts.tokens import decode
from tests.bus.support import held, running
from tests.support.broker import Broker


async def test_the_last_message_of_a_subject(bus: Bus) -> None:
    assert await last_of(bus, "JOURNAL", "j.1") is None
    for data in (b"a", b"b"):
        await bus.publish("j.1", data)
    await bus.publish("j.2", b"c")
    found = await last_of(bus, "JOURNAL", "j.1")
    assert found is not None
    assert (found.subject, found.sequence, found.data, found.headers) == ("j.1", 2, b"b", {})


async def test_the_next_message_of_a_subject_at_or_after_a_sequence(bus: Bus) -> None:
    for subject in ("j.1", "j.2", "j.1"):
        await bus.publish(subject, subject.encode())
    found = [await next_of(bus, "JOURNAL", "j.1", sequence) for sequence in (0, 1, 2, 3, 4)]
    assert [message.sequence if message else None for message in found] == [1, 1, 3, 3, None]


async def test_a_message_by_its_sequence_with_its_headers_and_bytes(bus: Bus) -> None:
    data = bytes(range(256))
    await bus.publish("j.1", data, {"P": "3.4", "Other": "a: b"})
    found = await message_at(bus, "JOURNAL", 1)
    assert found is not None
    assert (found.data, found.headers) == (data, {"P": "3.4", "Other": "a: b"})
    assert await message_at(bus, "JOURNAL", 2) is None


async def test_an_unknown_stream_is_empty_or_refused_but_never_silent(bus: Bus) -> None:
    with pytest.raises(ApiRefused):
        await stream_state(bus, "NONE")
    with pytest.raises(NoAnswer):
        await batch(bus, "NONE", {"seq": 1, "batch": 10})


async def test_the_state_of_a_stream(bus: Bus) -> None:
    await bus.publish("j.1", b"a")
    await bus.publish("j.1", b"b")
    await bus.api("STREAM.PURGE.JOURNAL", {"seq": 2})
    state = await stream_state(bus, "JOURNAL")
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (1, 2, 2)


async def publish_events(bus: Bus, count: int) -> None:
    for number in range(1, count + 1):
        subject = subjects.event_in("s", f"p{number % 2}", "check_result")
        await bus.publish(subject, b"%d" % number, {"P": f"{number}.1"})


async def test_a_batch_from_a_sequence_on(bus: Bus) -> None:
    await publish_events(bus, 5)
    found = await batch(bus, "EVENTS", {"seq": 3, "batch": 2})
    assert [(m.sequence, m.data, m.headers["P"]) for m in found] == [(3, b"3", "3.1"), (4, b"4", "4.1")]
    assert found[0].subject == "perpetua.events.s.p1.check_result"
    assert [m.sequence for m in await batch(bus, "EVENTS", {"seq": 4, "batch": 100})] == [4, 5]


async def test_a_batch_behind_the_end_or_of_an_empty_stream_is_empty(bus: Bus) -> None:
    assert await batch(bus, "EVENTS", {"seq": 1, "batch": 10}) == []
    await publish_events(bus, 1)
    assert await batch(bus, "EVENTS", {"seq": 2, "batch": 10}) == []


async def test_a_batch_of_the_last_messages_of_many_keys(bus: Bus) -> None:
    for name in ("a", "b", "a"):
        await bus.publish(f"$KV.leases.thinker.{name}", name.encode())
    found = await batch(bus, "KV_leases", {"multi_last": ["$KV.leases.>"], "batch": 100})
    assert sorted((m.subject, m.sequence) for m in found) == [
        ("$KV.leases.thinker.a", 3),
        ("$KV.leases.thinker.b", 2),
    ]


async def test_a_batch_leaves_no_subscription_behind(bus: Bus) -> None:
    before = len(bus.client._subs)
    for _ in range(3):
        await batch(bus, "EVENTS", {"seq": 1, "batch": 10})
    assert len(bus.client._subs) == before


async def test_a_broker_that_is_silent_is_told(
    bus: Bus, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.bus.read._BATCH_TIMEOUT_S", 0.3)
    broker.pause()
    with pytest.raises(NoAnswer, match=r"nothing within 0\.3 s"):
        await batch(bus, "EVENTS", {"seq": 1, "batch": 10})
    broker.resume()


@pytest.mark.fact("2.6")
async def test_the_longest_ids_fit_every_subject(bus: Bus) -> None:
    """128 characters of four bytes, each of them escaped: tokens of 1536 characters, two in a subject."""
    longest = "\U0001f600" * 128
    event = subjects.event_in(longest, longest, "snapshot_compressed")
    await bus.publish(event, b"e", {"P": "1.1"})
    await bus.publish(subjects.snapshot_in(longest, longest), b"s", {"P": "1.1"})
    await bus.publish(subjects.persona_key(longest), b"p")
    (stored,) = await held(bus, "EVENTS")
    assert decode(stored.subject.split(".")[3]) == longest
    (read,) = await batch(bus, "EVENTS", {"seq": 1, "batch": 1})
    assert read.subject == stored.subject
    persona = await last_of(bus, "KV_personas", subjects.persona_key(longest))
    assert persona is not None
    assert persona.data == b"p"


async def test_all_that_is_held_comes_in_order_and_holds_nothing_else_up(bus: Bus) -> None:
    """Found by a storm: a scheduler that read 40 000 events lost its presence and shards, and began again."""
    data = b"x" * 2000
    sent = [
        await bus.publisher.send("perpetua.in.events.s.p.t", data, {"P": f"{n}.1"}) for n in range(1, 2001)
    ]
    await asyncio.gather(*sent)
    renewals = 0

    async def renew() -> None:
        nonlocal renewals
        while True:
            await bus.publish("perpetua.captures.p.1", b"renewed")
            renewals += 1

    async with running(renew()):
        found = [stored.sequence async for stored in all_held(bus, "EVENTS")]
    assert found == list(range(1, 2001))
    assert renewals >= 8, "between 17 pieces; beside one large one it is two or three"


async def test_nothing_is_held_by_an_empty_stream(bus: Bus) -> None:
    assert [stored async for stored in all_held(bus, "EVENTS")] == []
    await bus.publish("perpetua.in.events.s.p.t", b"x", {"P": "1.1"})
    await bus.api("STREAM.PURGE.EVENTS")
    assert [stored async for stored in all_held(bus, "EVENTS")] == []
