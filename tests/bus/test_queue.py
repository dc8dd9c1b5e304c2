"""Pulling from the work queue: everything is settled, given back or set aside, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from libs.bus.connection import Bus
from libs.bus.loop import Dead, Done, MessageLoop, Refused, RetryLater
from libs.bus.queue import Puller, Work, purge_message
from libs.contracts import streams
from libs.contracts.journal import Position
from libs.contracts.refusals import NotFound
from libs.contracts.streams import thinkers_consumer
from libs.contracts.work import DeadLetter
from tests.bus.support import Noted, held, restart, running, until
from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.support.still import without_pause


class Hand:
    """Takes work and holds it until the test settles it."""

    def __init__(self, bus: Bus, room: int = 100) -> None:
        self.room = room
        self.works: list[Work] = []
        self.puller = Puller(bus, streams.THINK, streams.THINKERS, lambda: self.room, self.take)

    async def take(self, work: Work) -> None:
        self.room -= 1
        self.works.append(work)

    @property
    def data(self) -> list[bytes]:
        return [bytes(work.data) for work in self.works]


@asynccontextmanager
async def pulling(bus: Bus, room: int = 100) -> AsyncIterator[Hand]:
    hand = Hand(bus, room)
    async with running(hand.puller.run()):
        yield hand


async def ack_wait(bus: Bus, seconds: float) -> None:
    """Have unsettled work delivered again after so many seconds."""
    config = thinkers_consumer() | {"ack_wait": int(seconds * 1e9)}
    body = {"stream_name": streams.THINK, "config": config}
    await bus.api(f"CONSUMER.DURABLE.CREATE.{streams.THINK}.{streams.THINKERS}", body)


def is_empty(bus: Bus) -> Callable[[], object]:
    async def empty() -> bool:
        return not await held(bus, "THINK")

    return empty


async def letters(bus: Bus) -> list[DeadLetter]:
    return [msgspec.json.decode(m.data, type=DeadLetter) for m in await held(bus, "DEAD_LETTERS")]


async def test_work_that_is_done_is_gone(bus: Bus) -> None:
    await bus.publish("think.3", b"a")
    async with pulling(bus) as hand:
        (work,) = await eventually(lambda: hand.works)
        assert (work.subject, work.data, work.sequence, work.deliveries) == ("think.3", b"a", 1, 1)
        assert await held(bus, "THINK"), "not before it is settled"
        await work.settle(Done())
        await until(is_empty(bus))


async def test_no_more_is_pulled_than_there_is_room_for(bus: Bus) -> None:
    for number in range(6):
        await bus.publish("think.3", b"%d" % number)
    async with pulling(bus, room=2) as hand:
        await eventually(lambda: hand.data == [b"0", b"1"])
        hand.room = 3
        hand.puller.room_changed()
        await eventually(lambda: len(hand.works) == 5)
        info = await bus.api("CONSUMER.INFO.THINK.thinkers")
        assert (info["num_ack_pending"], info["num_pending"]) == (5, 1)


async def test_work_that_is_given_back_comes_again_after_its_delay(bus: Bus) -> None:
    await bus.publish("think.3", b"a")
    async with pulling(bus) as hand:
        (work,) = await eventually(lambda: hand.works)
        began = asyncio.get_running_loop().time()
        await work.settle(RetryLater(0.5, "busy"))
        await eventually(lambda: len(hand.works) == 2)
        assert asyncio.get_running_loop().time() - began >= 0.45
        assert (hand.works[1].deliveries, hand.works[1].sequence) == (2, 1)


async def test_work_that_nobody_settles_comes_again(bus: Bus) -> None:
    await ack_wait(bus, 0.4)
    await bus.publish("think.3", b"a")
    async with pulling(bus) as hand:
        await eventually(lambda: len(hand.works) >= 2)
        assert [work.deliveries for work in hand.works[:2]] == [1, 2]


async def test_work_in_progress_stays_with_whoever_has_it(bus: Bus) -> None:
    waits_s = 1.0
    await ack_wait(bus, waits_s)

    async def deliveries() -> list[int]:
        await bus.publish("think.3", b"a")
        async with pulling(bus) as hand:
            work = (await eventually(lambda: hand.works))[0]
            clock = asyncio.get_running_loop().time
            until_then = clock() + 2.5 * waits_s
            while clock() < until_then:
                await work.in_progress()
                await asyncio.sleep(0.1)
            for each in hand.works:
                await each.settle(Done())
            await until(is_empty(bus))
            return [each.deliveries for each in hand.works]

    assert await without_pause(bus, waits_s / 2, deliveries) == [1]


@pytest.mark.parametrize("outcome", [Dead("undecodable: x"), Refused(NotFound("undecodable: x"))])
async def test_what_can_never_be_done_is_buried_for_people_to_read(bus: Bus, outcome: Dead | Refused) -> None:
    await bus.publish("think.3", b"\x00garbage")
    async with pulling(bus) as hand:
        (work,) = await eventually(lambda: hand.works)
        await work.settle(outcome)
        await until(is_empty(bus))
    (letter,) = await letters(bus)
    assert (letter.subject, letter.reason, letter.deliveries) == ("think.3", "undecodable: x", 1)
    assert letter.body == b"\x00garbage"


async def test_it_is_copied_before_it_is_deleted(bus: Bus) -> None:
    """Where the copy cannot be stored, the work stays in its queue."""
    await bus.api("STREAM.DELETE.DEAD_LETTERS")
    await bus.publish("think.3", b"a")
    async with pulling(bus) as hand:
        (work,) = await eventually(lambda: hand.works)
        await work.settle(Dead("why"))
        await bus.client.flush()
        assert [message.data for message in await held(bus, "THINK")] == [b"a"]


async def test_what_can_neither_be_read_nor_buried_ends_nobody_and_is_buried_later(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by reading: it ended the thinker that got it, and then the next one."""
    monkeypatch.setattr("libs.bus.queue._BURIED_AGAIN_AFTER_S", 0.2)
    before = (await bus.api("STREAM.INFO.DEAD_LETTERS"))["config"]

    async def handle(_: Position, __: Work) -> None:
        raise AssertionError

    await bus.api("STREAM.DELETE.DEAD_LETTERS")
    loop = MessageLoop("think", msgspec.json.Decoder(Position).decode, handle, noted := Noted())
    puller = Puller(bus, "THINK", "thinkers", lambda: 10, loop.process)
    await bus.publish("think.0", b"{")
    async with running(puller.run()):
        await eventually(lambda: noted.outcomes)
        await bus.api("STREAM.CREATE.DEAD_LETTERS", before)
        await until(is_empty(bus))
    (letter,) = await letters(bus)
    assert letter.body == b"{"


async def test_undecodable_work_passes_the_loop_into_the_dead_letters(bus: Bus) -> None:
    async def handle(_: Position, __: Work) -> None:
        raise AssertionError

    noted = Noted()
    loop = MessageLoop("think", msgspec.json.Decoder(Position).decode, handle, noted)
    puller = Puller(bus, "THINK", "thinkers", lambda: 10, loop.process)
    await bus.publish("think.3", b"{")
    async with running(puller.run()):
        await until(is_empty(bus))
    assert noted.outcomes == ["dead"]
    assert [letter.body for letter in await letters(bus)] == [b"{"]


async def test_each_piece_of_work_goes_to_one_of_several(bus: Bus) -> None:
    for number in range(100):
        await bus.publish(f"think.{number % 64}", b"%d" % number)
    async with pulling(bus) as one, pulling(bus) as other:
        await eventually(lambda: len(one.works) + len(other.works) == 100)
        assert sorted(int(data) for data in one.data + other.data) == list(range(100))


async def test_who_stops_pulling_takes_nothing_with_them(bus: Bus) -> None:
    """What was asked for is forgotten: the next message goes to somebody else at once."""
    async with pulling(bus) as gone:
        await until(lambda: is_waiting(bus))
    await bus.publish("think.3", b"a")
    async with pulling(bus) as stays:
        (work,) = await eventually(lambda: stays.works)
        assert work.deliveries == 1
    assert gone.works == []


async def is_waiting(bus: Bus) -> bool:
    return bool((await bus.api("CONSUMER.INFO.THINK.thinkers"))["num_waiting"])


async def test_pulls_are_renewed_when_they_expire(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.bus.queue._EXPIRES_S", 0.3)
    monkeypatch.setattr("libs.bus.queue.HEARTBEAT_S", 0.1)
    async with pulling(bus, room=2) as hand:
        for number in range(3):
            await asyncio.sleep(0.4)
            await bus.publish("think.3", b"%d" % number)
            await eventually(lambda: len(hand.works) == number + 1)  # noqa: B023 - awaited at once
            hand.room = 2
            hand.puller.room_changed()


@pytest.mark.fact("3.3")
async def test_pulling_goes_on_after_the_broker_is_back(bus: Bus, broker: Broker) -> None:
    async with pulling(bus) as hand:
        await until(lambda: is_waiting(bus))
        await restart(broker)
        await eventually(lambda: bus.connected)
        await bus.publish("think.3", b"a")
        await eventually(lambda: hand.data == [b"a"])


async def test_a_message_can_be_deleted_by_its_sequence(bus: Bus) -> None:
    await bus.publish("think.3", b"a")
    sequence = await bus.publish("think.3", b"b")
    assert await purge_message(bus, "THINK", sequence)
    assert not await purge_message(bus, "THINK", sequence)
    assert [message.data for message in await held(bus, "THINK")] == [b"a"]
