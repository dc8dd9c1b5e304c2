"""The gateway's feed: it follows the stream while somebody listens, and loses nothing in between [5.3]."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from libs.bus.connection import Bus
from libs.bus.provision import provision
from libs.bus.telemetry import NoTelemetry
from libs.contracts import streams
from libs.contracts.streams import StreamBounds
from services.gateway.feed import Feed, comment
from tests.bus.support import restart, running
from tests.support.broker import Broker
from tests.support.eventually import eventually

LINGER_S = 0.3
_FRAME = re.compile(rb"id: (\d+)\nevent: (\w+)\ndata: (.*)\n\n")


async def publish(bus: Bus, count: int) -> int:
    """Store so many events and return the last one's sequence."""
    last = 0
    for _ in range(count):
        ours = {streams.PLACE: "1.1"}  # what names no place is a stranger's
        last = await bus.publish("perpetua.in.events._._.check_result", b"{}", ours)
    return last


@asynccontextmanager
async def feed(bus: Bus) -> AsyncIterator[Feed]:
    made = Feed(bus, NoTelemetry(), linger=LINGER_S)
    async with running(made.run()):
        yield made


@asynccontextmanager
async def following(one: Feed, after: int) -> AsyncIterator[AsyncIterator[bytes]]:
    """A client of the feed."""
    with one.place():
        async with aclosing(one.frames(after, comment("keep-alive"))) as client:
            yield client


async def followed(bus: Bus) -> bool:
    """Whether the event stream has a consumer that somebody listens to."""
    listed = await bus.api(f"CONSUMER.LIST.{streams.EVENTS}", {"offset": 0})
    return any(one.get("push_bound") for one in listed["consumers"])


async def deserted(bus: Bus) -> None:
    async def nobody() -> bool:
        return not await followed(bus)

    await eventually(nobody, what="leaving off")


async def read(client: AsyncIterator[bytes], last: int) -> list[tuple[int, str]]:
    """What a client is sent up to a sequence: each frame's id and name."""
    found: list[tuple[int, str]] = []
    async with asyncio.timeout(30):
        while not found or found[-1][0] < last:
            data = await anext(client)
            found += [(int(i), name.decode()) for i, name, _ in _FRAME.findall(data)]
    return found


def cognition(first: int, last: int) -> list[tuple[int, str]]:
    return [(number, "cognition") for number in range(first, last + 1)]


async def test_nothing_is_followed_until_a_client_comes_nor_long_after_the_last_one_has_gone(
    bus: Bus,
) -> None:
    last = await publish(bus, 3)
    async with feed(bus) as one:
        assert not await followed(bus)
        async with following(one, last) as client:
            reading = asyncio.create_task(read(client, last + 2))
            await eventually(lambda: followed(bus), what="following")
            await publish(bus, 2)
            assert await reading == cognition(last + 1, last + 2)
            leaving = time.monotonic()
        await deserted(bus)
        assert time.monotonic() - leaving >= LINGER_S, "it lingers"
        assert one.clients == 0


@pytest.mark.fact("5.3")
async def test_what_is_stored_while_nobody_listens_is_sent_to_who_resumes(bus: Bus) -> None:
    last = await publish(bus, 3)
    async with feed(bus) as one:
        for _ in range(3):
            begin = last
            last = await publish(bus, 7)
            async with following(one, begin) as client:
                assert await read(client, last) == cognition(begin + 1, last)
                more = await publish(bus, 5)
                assert await read(client, more) == cognition(last + 1, more)
                last = more
            await deserted(bus)


@pytest.mark.fact("5.3")
async def test_lag_is_exact_for_what_was_evicted_while_nobody_listened(bus: Bus) -> None:
    await provision(bus, StreamBounds(max_events=32, max_snapshots=128))
    begin = await publish(bus, 5)
    async with feed(bus) as one:
        async with following(one, begin - 1) as client:
            assert await read(client, begin) == cognition(begin, begin)
        await deserted(bus)
        last = await publish(bus, 100)
        async with following(one, begin) as client:
            assert await read(client, last) == [(last - 32, "lag"), *cognition(last - 31, last)]
        async with following(one, 0) as client:
            assert await read(client, last) == cognition(last - 31, last)


@pytest.mark.fact("5.3")
async def test_clients_that_come_and_go_while_events_come_miss_none_and_see_none_twice(bus: Bus) -> None:
    """Following ends and begins anew many times; each client resumes where it was."""
    seen: list[tuple[int, str]] = []
    total = 1500

    async def client(one: Feed) -> None:
        while len(seen) < total:
            begin = seen[-1][0] if seen else 0
            async with following(one, begin) as frames:
                async with asyncio.timeout(30):
                    data = await anext(frames)
                seen.extend((int(i), name.decode()) for i, name, _ in _FRAME.findall(data))
            await asyncio.sleep(0.02 if len(seen) % 3 else 1.2 * LINGER_S)

    async with feed(bus) as one:
        coming_and_going = asyncio.create_task(client(one))
        await publish(bus, total)
        async with asyncio.timeout(60):
            await coming_and_going
    assert seen == cognition(1, total)


@pytest.mark.fact("5.3")
async def test_many_clients_are_woken_together_and_each_gets_everything_in_order(bus: Bus) -> None:
    """An event by itself for each of 300 clients would be 60 000 pieces; they come in far fewer."""
    clients, total = 300, 200
    pieces = 0

    async def client(one: Feed) -> list[tuple[int, str]]:
        nonlocal pieces
        found: list[tuple[int, str]] = []
        async with following(one, 0) as frames:
            async for data in frames:
                pieces += 1
                found += [(int(i), name.decode()) for i, name, _ in _FRAME.findall(data)]
                if found[-1][0] == total:
                    break
        return found

    async with feed(bus) as one, asyncio.timeout(60):
        reading = [asyncio.create_task(client(one)) for _ in range(clients)]
        await eventually(lambda: followed(bus), what="following")
        await publish(bus, total)
        assert all(found == cognition(1, total) for found in await asyncio.gather(*reading))
    assert pieces < clients * total / 4


@pytest.mark.fact("5.3")
async def test_large_events_are_sent_few_at_a_time_out_of_the_stream_and_live(bus: Bus) -> None:
    """What is sent together waits in memory for a client that reads slowly."""
    ours = {streams.PLACE: "1.1"}

    async def publish_large() -> int:
        for _ in range(20):
            last = await bus.publish("perpetua.in.events._._.check_result", b"x" * 60_000, ours)
        return last

    async with feed(bus) as one:
        first = await publish_large()
        async with following(one, 0) as client:
            for last in (first, 2 * first):
                seen = 0
                async with asyncio.timeout(30):
                    while seen < last:
                        data = await anext(client)
                        assert len(data) < 200_000
                        seen = int(data.rpartition(b"id: ")[2].partition(b"\n")[0] or seen)
                if last == first:
                    await publish_large()


async def test_a_client_that_comes_while_the_broker_is_away_is_served_when_it_is_back(
    bus: Bus, broker: Broker
) -> None:
    last = await publish(bus, 3)
    async with feed(bus) as one, following(one, last - 3) as client:
        reading = asyncio.create_task(read(client, last))
        await restart(broker)
        assert await reading == cognition(last - 2, last)
        more = await publish(bus, 4)
        assert await read(client, more) == cognition(last + 1, more)
