"""Reading a stream in order, without gaps, whatever happens to the broker."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable

import pytest

from libs.bus.connection import Bus
from libs.bus.errors import BusError, OutcomeUnknown, StreamRewound, WrongLastSequence
from libs.bus.follow import Follower, StreamMessage, read_to_end
from libs.bus.loop import Fatal, MessageLoop, Postpone
from libs.bus.publisher import expecting
from libs.contracts import subjects
from tests.bus.support import Noted, restart, running
from tests.support.broker import Broker
from tests.support.eventually import eventually

Take = Callable[[bytes, StreamMessage], Awaitable[None]]


def follower(bus: Bus, take: Take, after: int = 0, only: tuple[str, ...] = ()) -> Follower:
    return Follower(bus, "JOURNAL", MessageLoop("test", bytes, take, Noted()), after=after, subjects=only)


class Seen:
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes]] = []

    async def take(self, data: bytes, message: StreamMessage) -> None:
        self.messages.append((message.sequence, data))

    @property
    def data(self) -> list[bytes]:
        return [data for _, data in self.messages]


async def publish(bus: Bus, *data: bytes) -> None:
    for each in data:
        await bus.publish("j.1", each)


def numbers(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last + 1)]


async def test_it_sees_what_was_there_and_what_comes(bus: Bus) -> None:
    seen = Seen()
    await publish(bus, b"1", b"2")
    follow = follower(bus, seen.take)
    async with running(follow.run()):
        await eventually(lambda: seen.messages == [(1, b"1"), (2, b"2")])
        await publish(bus, b"3")
        await follow.reached(3)
        assert seen.data == [b"1", b"2", b"3"]
        assert follow.position == 3


async def test_it_begins_behind_a_sequence_and_may_filter(bus: Bus) -> None:
    seen = Seen()
    for subject in ("j.1", "j.2", "j.1", "j.2", "j.1"):
        await bus.publish(subject, subject.encode())
    async with running(follower(bus, seen.take, after=2, only=("j.1",)).run()):
        await eventually(lambda: len(seen.messages) == 2)
        await bus.publish("j.1", b"new")
        await eventually(lambda: seen.messages == [(3, b"j.1"), (5, b"j.1"), (6, b"new")])


@pytest.mark.fact("3.3")
async def test_every_message_is_seen_once_and_in_order_over_kills_of_the_broker(
    bus: Bus, broker: Broker
) -> None:
    seen = Seen()
    follow = follower(bus, seen.take)
    async with running(follow.run()):
        await publish(bus, *numbers(1, 100))
        for kill in range(1, 4):
            publishing = asyncio.create_task(publish_while_killed(bus, kill))
            await restart(broker)
            await publishing
        await eventually(lambda: len(seen.messages) >= 130, within=60)
        await publish(bus, b"last")
        await eventually(lambda: seen.data[-1] == b"last", within=60)
    assert seen.data == [*numbers(1, 130), b"last"]
    assert [sequence for sequence, _ in seen.messages] == list(range(1, 132))


async def publish_while_killed(bus: Bus, kill: int) -> None:
    """Ten more messages, each under its expected sequence: stored once."""
    for number in range(91 + 10 * kill, 101 + 10 * kill):
        while True:
            try:
                await bus.publish("j.1", b"%d" % number, expecting(number - 1))
                break
            except OutcomeUnknown:
                await asyncio.sleep(0.05)
            except WrongLastSequence as error:
                if error.actual == number:
                    break


async def test_a_purge_of_older_messages_is_passed_over(bus: Bus) -> None:
    seen = Seen()
    await publish(bus, *numbers(1, 10))
    await bus.api("STREAM.PURGE.JOURNAL", {"seq": 6})
    async with running(follower(bus, seen.take, after=2).run()):
        await eventually(lambda: seen.data == numbers(6, 10))
        await bus.api("STREAM.PURGE.JOURNAL", {"seq": 10})
        await publish(bus, b"11")
        await eventually(lambda: seen.data == numbers(6, 11))


async def test_messages_deleted_in_the_middle_are_passed_over(bus: Bus) -> None:
    seen = Seen()
    await publish(bus, *numbers(1, 5))
    await bus.api("STREAM.MSG.DELETE.JOURNAL", {"seq": 3})
    async with running(follower(bus, seen.take).run()):
        await eventually(lambda: seen.data == [b"1", b"2", b"4", b"5"])


async def test_a_stream_that_ends_before_what_was_read_is_told(bus: Bus) -> None:
    await publish(bus, b"1")
    with pytest.raises(StreamRewound, match="stream JOURNAL ends at 1, but 7 was read from it"):
        await asyncio.wait_for(follower(bus, Seen().take, after=7).run(), 30)


@pytest.mark.fact("3.3")
async def test_a_store_that_was_lost_is_told(bus: Bus, broker: Broker) -> None:
    """The broker comes back with the stream, but without what was read from it."""
    seen = Seen()
    await publish(bus, *numbers(1, 5))
    follow = follower(bus, seen.take)
    run = asyncio.create_task(follow.run())
    await follow.reached(5)
    config = (await bus.api("STREAM.INFO.JOURNAL"))["config"]
    broker.kill()
    shutil.rmtree(broker.folder / "store")
    await asyncio.to_thread(broker.start)
    await eventually(lambda: bus.connected)
    await bus.api("STREAM.CREATE.JOURNAL", config)
    with pytest.raises(StreamRewound):
        await asyncio.wait_for(run, 30)


async def test_it_waits_for_a_stream_that_is_not_there_yet(bus: Bus) -> None:
    seen = Seen()
    config = (await bus.api("STREAM.INFO.JOURNAL"))["config"]
    await bus.api("STREAM.DELETE.JOURNAL")
    async with running(follower(bus, seen.take).run()):
        await bus.api("STREAM.CREATE.JOURNAL", config)
        await publish(bus, b"1")
        await eventually(lambda: seen.data == [b"1"])


async def test_messages_are_handled_one_at_a_time(bus: Bus) -> None:
    inside = 0
    most = 0
    seen = Seen()

    async def take(data: bytes, message: StreamMessage) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1
        await seen.take(data, message)

    await publish(bus, *numbers(1, 30))
    async with running(follower(bus, take).run()):
        await eventually(lambda: len(seen.messages) == 30)
    assert most == 1


@pytest.mark.parametrize("error", [KeyError("x"), Postpone("later"), Fatal("over")])
async def test_a_message_that_is_not_handled_ends_the_reading(bus: Bus, error: Exception) -> None:
    """It cannot be skipped, and what follows may not come before it."""

    async def fail(data: bytes, _: StreamMessage) -> None:
        if data == b"2":
            raise error

    await publish(bus, b"1", b"2", b"3")
    follow = follower(bus, fail)
    with pytest.raises(Fatal):
        await asyncio.wait_for(follow.run(), 30)
    assert follow.position == 1


async def test_a_slow_reader_gets_everything(bus: Bus) -> None:
    """More than a consumer may have in flight: flow control holds the broker back."""
    seen = Seen()
    body = b"x" * 60_000
    for shard in range(4):
        await asyncio.gather(*[bus.publish(f"j.{shard}", body) for _ in range(150)])
    async with running(follower(bus, seen.take).run()):
        await eventually(lambda: len(seen.messages) == 600, within=60)
    assert [sequence for sequence, _ in seen.messages] == list(range(1, 601))


@pytest.mark.fact("2.6")
async def test_the_longest_subjects_are_followed(bus: Bus) -> None:
    longest = "\U0001f600" * 128
    await bus.publish(subjects.event_in(longest, longest, "check_result"), b"1", {"P": "1.1"})
    seen: list[StreamMessage] = []

    async def take(_: bytes, message: StreamMessage) -> None:
        seen.append(message)

    follow = Follower(bus, "EVENTS", MessageLoop("test", bytes, take, Noted()))
    async with running(follow.run()):
        await eventually(lambda: seen)
    assert seen[0].subject == subjects.event(longest, longest, "check_result")
    assert seen[0].headers["P"] == "1.1"


async def read(bus: Bus) -> tuple[int, list[bytes]]:
    seen = Seen()
    last = await asyncio.wait_for(
        read_to_end(bus, "JOURNAL", MessageLoop("t", bytes, seen.take, Noted())), 30
    )
    return last, seen.data


async def test_reading_to_the_end_reads_what_is_there_now(bus: Bus) -> None:
    assert await read(bus) == (0, [])
    for shard in range(3):
        await asyncio.gather(*[bus.publish(f"j.{shard}", b"x") for _ in range(100)])
    assert await read(bus) == (300, [b"x"] * 300)
    await bus.api("STREAM.PURGE.JOURNAL")
    assert await read(bus) == (300, [])


async def test_reading_to_the_end_ends_also_where_the_last_message_is_gone(bus: Bus) -> None:
    """An operator deletes a message; its sequence stays the stream's last one."""
    await publish(bus, b"1", b"2", b"3")
    await bus.api("STREAM.MSG.DELETE.JOURNAL", {"seq": 3})
    assert await read(bus) == (3, [b"1", b"2"])


async def test_reading_to_the_end_fails_with_its_handler(bus: Bus) -> None:
    async def fail(_: bytes, __: StreamMessage) -> None:
        raise Fatal("over")

    await publish(bus, b"1")
    with pytest.raises((Fatal, BusError), match="over"):
        await read_to_end(bus, "JOURNAL", MessageLoop("t", bytes, fail, Noted()))
