"""Sending to personas: accepted is stored, and nothing is stored that could not be accepted [A1, A5]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from libs.bus.connection import Bus
from libs.bus.errors import OutcomeUnknown
from libs.bus.provision import provision
from libs.bus.read import last_of
from libs.contracts import subjects
from libs.contracts.inbox import Accepted, InboxItem, Post, SendRequest, SwarmAccepted, SwarmSendRequest
from libs.contracts.refusals import Conflict, NotFound, Refusal, Unavailable
from libs.contracts.streams import INBOX_DEPTH, StreamBounds
from libs.contracts.tokens import shard_of
from services.gateway import storing
from tests.bus.support import held
from tests.services.asking import Asked, answering_registry
from tests.support.broker import Broker
from tests.unit.make import NOW


@pytest_asyncio.fixture
async def asked(bus: Bus) -> AsyncIterator[Asked]:
    async with answering_registry(bus) as made:
        await made.create("ann", "b/ob", swarm_id="s")
        yield made


def hello(**more: Any) -> SendRequest:
    return SendRequest(content="Is it calm?", **more)


def to_all(**more: Any) -> SwarmSendRequest:
    return SwarmSendRequest(content="Is it calm?", **more)


async def stored(bus: Bus) -> list[InboxItem]:
    return [msgspec.json.decode(one.data, type=InboxItem) for one in await held(bus, "INBOX")]


async def fill(bus: Bus, persona_id: str) -> None:
    subject = subjects.inbox(shard_of(persona_id), persona_id)
    await asyncio.gather(*[await bus.publisher.send(subject, b"{}") for _ in range(INBOX_DEPTH)])


@pytest.mark.fact("A1")
async def test_what_is_accepted_is_in_the_stream_under_the_persona_s_subject(bus: Bus, asked: Asked) -> None:
    answer = await asked.sending.to_persona(
        "b/ob", hello(domain="game", source_id="room", priority=0.5, mentions=["@Ann"])
    )
    assert answer == Accepted(item_id="id-1", persona_id="b/ob")
    (one,) = await held(bus, "INBOX")
    assert one.subject == f"inbox.{shard_of('b/ob')}.b=2Fob"
    assert msgspec.json.decode(one.data, type=InboxItem) == InboxItem(
        id="id-1",
        persona_id="b/ob",
        content="Is it calm?",
        domain="game",
        source_id="room",
        timestamp=NOW,
        priority=0.5,
        mentions=["@Ann"],
    )


@pytest.mark.fact("A1")
async def test_a_sender_may_say_when_it_happened(bus: Bus, asked: Asked) -> None:
    at = NOW.replace(year=2020)
    await asked.sending.to_persona("ann", hello(timestamp=at))
    assert [one.timestamp for one in await stored(bus)] == [at]


@pytest.mark.fact("A1")
async def test_who_is_not_there_or_lives_no_more_is_sent_nothing(bus: Bus, asked: Asked) -> None:
    with pytest.raises(NotFound, match=r"^Persona not found: nobody$"):
        await asked.sending.to_persona("nobody", hello())
    await asked.reap("ann")
    with pytest.raises(Conflict, match=r"^Persona ann is reaped; nothing reaches it any more$"):
        await asked.sending.to_persona("ann", hello())
    assert await stored(bus) == []


@pytest.mark.fact("A2")
async def test_a_full_inbox_is_said_with_its_persona_and_its_cause(bus: Bus, asked: Asked) -> None:
    await fill(bus, "ann")
    with pytest.raises(Unavailable, match=r"^The inbox of persona ann is full: 2000 items wait") as raised:
        await asked.sending.to_persona("ann", hello())
    assert raised.value.retry_after == 5
    assert await asked.sending.to_persona("b/ob", hello()), "others have room"


async def test_a_full_stream_is_said_with_the_setting_that_bounds_it(bus: Bus, asked: Asked) -> None:
    await provision(bus, StreamBounds(max_inbox_bytes=4096))
    with pytest.raises(Unavailable, match="as much as PERPETUA_MAX_INBOX_BYTES allows"):
        for _ in range(20):
            await asked.sending.to_persona("ann", hello(source_id="x" * 128))


@pytest.mark.fact("A5")
async def test_a_post_reaches_each_living_persona_of_the_swarm_and_nobody_else(
    bus: Bus, asked: Asked
) -> None:
    await asked.create("cat", "dan", swarm_id="s")
    await asked.create("eve", swarm_id="other")
    await asked.reap("dan")
    answer = await asked.sending.to_swarm("s", to_all(answers_most=3))
    assert answer == SwarmAccepted(post_id="id-1", swarm_id="s", personas=3)
    items = await stored(bus)
    assert sorted(one.persona_id for one in items) == ["ann", "b/ob", "cat"]
    assert {(one.post_id, one.answers_most, one.content) for one in items} == {("id-1", 3, "Is it calm?")}
    assert len({one.id for one in items}) == 3
    place = await last_of(bus, "KV_posts", subjects.post_key("id-1"))
    assert place is not None
    assert msgspec.json.decode(place.data, type=Post) == Post(id="id-1", answers_most=3)


async def test_a_swarm_without_living_personas_is_not_found(bus: Bus, asked: Asked) -> None:
    await asked.create("dan", swarm_id="gone")
    await asked.reap("dan")
    for name in ("gone", "never"):
        with pytest.raises(NotFound, match=f"^No persona of swarm {name} lives$"):
            await asked.sending.to_swarm(name, to_all())
    assert await held(bus, "KV_posts") == []


async def test_a_large_swarm_is_reached_whole(bus: Bus, asked: Asked) -> None:
    await asyncio.gather(*(asked.create(f"p{n}", swarm_id="large", charter="x" * 500) for n in range(1500)))
    assert (await asked.sending.to_swarm("large", to_all())).personas == 1500
    assert {one.persona_id for one in await stored(bus)} == {f"p{n}" for n in range(1500)}


async def test_of_a_post_with_a_full_inbox_the_others_have_it_and_the_sender_is_told(
    bus: Bus, asked: Asked
) -> None:
    await fill(bus, "ann")
    with pytest.raises(
        Unavailable,
        match=r"^1 of 2 personas have it; send it again under the id id-1 for the others. The inboxes of ann "
        "are full",
    ):
        await asked.sending.to_swarm("s", to_all())
    await bus.api("STREAM.PURGE.INBOX", {"filter": subjects.inbox(shard_of("ann"), "ann")})
    assert (await asked.sending.to_swarm("s", to_all(id="id-1"))).personas == 2
    by_persona = {one.persona_id: one.id for one in await stored(bus)}
    assert by_persona.keys() == {"ann", "b/ob"}
    again = [one.id for one in await stored(bus) if one.persona_id == "b/ob"]
    assert len(set(again)) == 1, "who has it already knows the second copy by its id"


@pytest.mark.fact("A1")
async def test_what_is_to_be_sent_once_is_sent_once(bus: Bus, asked: Asked) -> None:
    one = [await asked.sending.to_persona("ann", hello(id="mine", once=True)) for _ in range(3)]
    assert one == [Accepted(item_id="mine", persona_id="ann")] * 3
    assert [item.id for item in await stored(bus)] == ["mine"]
    assert await asked.sending.accepted("ann", "mine") == one[0]
    with pytest.raises(NotFound, match=r"^Nothing was sent to persona b/ob under the id mine$"):
        await asked.sending.accepted("b/ob", "mine")
    await asked.sending.to_persona("b/ob", hello(id="mine", once=True))
    assert len(await stored(bus)) == 2, "another persona's is another item"


@pytest.mark.fact("A1")
async def test_without_once_the_same_id_is_the_same_item_twice(bus: Bus, asked: Asked) -> None:
    """Its scheduler drops the second where it holds the first; nothing is remembered here."""
    for _ in range(2):
        await asked.sending.to_persona("ann", hello(id="mine"))
    assert [item.id for item in await stored(bus)] == ["mine", "mine"]
    assert await held(bus, "KV_sent") == []
    with pytest.raises(NotFound):
        await asked.sending.accepted("ann", "mine")


async def test_a_post_that_is_to_be_sent_once_is_sent_once(bus: Bus, asked: Asked) -> None:
    both = [await asked.sending.to_swarm("s", to_all(id="mine", once=True)) for _ in range(2)]
    assert both == [SwarmAccepted(post_id="mine", swarm_id="s", personas=2)] * 2
    assert len(await stored(bus)) == 2


async def test_a_post_s_place_is_not_made_anew_where_personas_have_asked_for_it(
    bus: Bus, asked: Asked
) -> None:
    """A post that is sent again after an unknown outcome keeps who may answer it."""
    granted = Post(id="mine", answers_most=2, granted=["ann"])
    await bus.publish(subjects.post_key("mine"), msgspec.json.encode(granted))
    await asked.sending.to_swarm("s", to_all(id="mine"))
    place = await last_of(bus, "KV_posts", subjects.post_key("mine"))
    assert place is not None
    assert msgspec.json.decode(place.data, type=Post) == granted


@pytest.mark.fact("A2")
async def test_an_unknown_outcome_is_published_again_under_the_same_id(
    bus: Bus, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, unknown = bus.publisher.send, 2

    async def send(subject: str, data: bytes, headers: Any = None) -> asyncio.Future[int]:
        nonlocal unknown
        future = await real(subject, data, headers)
        if not subject.startswith("inbox.") or not unknown:
            return future
        unknown -= 1
        await future
        lost: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        lost.set_exception(OutcomeUnknown(subject, "the ack was lost"))
        return lost

    monkeypatch.setattr(bus.publisher, "send", send)
    answer = await asked.sending.to_persona("ann", hello())
    assert [one.id for one in await stored(bus)] == [answer.item_id] * 3


@pytest.mark.fact("A2")
async def test_nothing_is_accepted_while_the_broker_is_away(
    broker: Broker, bus: Bus, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "_WITHIN_S", 0.5)
    sending = asyncio.create_task(
        storing.store(bus, "what was sent to persona ann", [(subjects.inbox(1, "ann"), b"{}")])
    )
    broker.kill()
    with pytest.raises(Refusal, match="nobody knows whether what was sent to persona ann is stored"):
        await sending
    broker.start()


async def test_a_broker_that_is_back_in_time_is_sent_everything(broker: Broker, bus: Bus) -> None:
    messages = [(subjects.inbox(n, "p"), b"%d" % n) for n in range(200)]
    broker.kill()
    storing_all = asyncio.create_task(storing.store(bus, "a post", messages))
    await asyncio.to_thread(broker.start)
    assert await storing_all == {}
    assert {(one.subject, one.data) for one in await held(bus, "INBOX")} == set(messages)
