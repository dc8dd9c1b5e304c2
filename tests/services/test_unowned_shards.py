"""A shard without an owner takes nothing from thinkers that others need [3.2, H10]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest
from nats.aio.msg import Msg

from libs.bus.connection import Bus
from libs.contracts import streams, subjects
from libs.contracts.work import Grant, GrantRequest, Results
from services.thinker import room as rules
from services.thinker.room import Room
from tests.bus.support import held
from tests.services.crashing import Running
from tests.support.broker import Broker
from tests.support.endpoint import Endpoint, endpoint
from tests.support.eventually import eventually
from tests.unit.make import chunk, item

MANY = [[f"m{chunk}.{number}" for number in range(24)] for chunk in range(8)]
ONE = [["m"]]
CAPACITY = 16
AWAY, THERE = 1, 2


class Owner:
    """Grants all of a shard's chunks, and takes their thoughts."""

    def __init__(self, bus: Bus, shard: int, chunks: list[list[str]]) -> None:
        self.granted: list[int] = []
        """Which delivery of its chunk each grant was for."""

        self.dispatched = sum(map(len, chunks))

        self.settled: set[str] = set()
        self._bus = bus
        self._shard = shard
        self._chunks = chunks

    @asynccontextmanager
    async def granting(self) -> AsyncIterator[Owner]:
        async with self._bus.subscribed(subjects.grant(self._shard), self._grant):
            yield self

    @asynccontextmanager
    async def settling(self) -> AsyncIterator[Owner]:
        async with self._bus.subscribed(subjects.result(self._shard), self._settle):
            yield self

    async def dispatch(self, *, alone: bool = False) -> None:
        for number, names in enumerate(self._chunks):
            work = msgspec.structs.replace(chunk(str(number), *names), shard=self._shard, alone=alone)
            await self._bus.publish(subjects.think(self._shard), msgspec.json.encode(work))

    def is_done(self) -> bool:
        return len(self.settled) == self.dispatched

    async def _grant(self, message: Msg) -> None:
        request = msgspec.json.decode(message.data, type=GrantRequest)
        self.granted.append(request.deliveries)
        items = [item(name) for name in self._chunks[int(request.chunk)]]
        await message.respond(msgspec.json.encode(Grant(items=items)))

    async def _settle(self, message: Msg) -> None:
        results = msgspec.json.decode(message.data, type=Results)
        self.settled.update(thought.persona_id for thought in results.thoughts)
        await message.respond(b"{}")


@pytest.fixture
def model() -> Iterator[Endpoint]:
    with endpoint() as running:
        yield running


@pytest.fixture
async def thinker(bus: Bus, broker: Broker, model: Endpoint) -> AsyncIterator[Running]:
    """A real thinker that has 16 thoughts under way at once."""
    named = {"THINKER_ENABLED": "true", "THINKER_BASE_URL": model.base_url, "THINKER_CONCURRENCY": "16"}
    running = Running("thinker", broker.url, **{f"CODETETHER_COGNITION_{k}": v for k, v in named.items()})
    try:
        yield await running.until_ready()
    finally:
        await running.close()


@pytest.mark.parametrize("alone", [False, True])
async def test_thoughts_that_nobody_grants_hold_up_no_others(bus: Bus, thinker: Running, alone: bool) -> None:
    """Twice what is thought at once, of one shard, was all that was ever taken; nothing of it came back."""
    away, there = Owner(bus, AWAY, ONE if alone else MANY), Owner(bus, THERE, [["p"]])
    await away.dispatch(alone=alone)
    await eventually(lambda: thinker.counted("perpetua_thoughts_in_hand"), what="it has some")
    async with there.granting(), there.settling():
        await there.dispatch(alone=alone)
        await eventually(there.is_done, 20, "the other shard's thought is settled")
        await eventually(lambda: thinker.counted("perpetua_thoughts_in_hand") == away.dispatched)
    async with away.granting(), away.settling():
        await eventually(away.is_done, 20, "their owner is back")
        await eventually(lambda: is_empty(bus), what="an empty queue")
    assert set(away.granted) == {1}, "no delivery was used up meanwhile"


async def is_empty(bus: Bus) -> bool:
    return not await held(bus, streams.THINK)


@pytest.mark.parametrize("alone", [False, True])
async def test_thoughts_that_nobody_stores_hold_up_no_others(
    bus: Bus, thinker: Running, model: Endpoint, alone: bool
) -> None:
    away, there = Owner(bus, AWAY, ONE if alone else MANY), Owner(bus, THERE, [["p"]])
    async with away.granting():
        await away.dispatch(alone=alone)
        await eventually(lambda: away.granted, what="it was granted some")
        async with there.granting(), there.settling():
            await there.dispatch(alone=alone)
            await eventually(there.is_done, 20, "the other shard's thought is settled")
        async with away.settling():
            await eventually(away.is_done, 20, "they are stored")
    assert len(model.requests) == away.dispatched + there.dispatched, "and were not thought again"


async def test_what_waits_for_owners_is_bounded() -> None:
    room = Room(lambda: CAPACITY)
    async with AsyncExitStack() as stack:
        waiting: list[asyncio.Task[None]] = []
        all_names = [name for names in MANY for name in names]
        while room.waiting < rules.WAITING_MOST:
            place = await stack.enter_async_context(room.place(chunk("c", *all_names)))
            waiting.append(asyncio.create_task(place.until_asked_again(0.0, there=False)))
            await asyncio.sleep(0)
        beyond = room.waiting - rules.WAITING_MOST
        assert (room.in_hand, room.left) == (0, 2 * CAPACITY - beyond)
        assert room.left <= 0, "nothing more is taken in"
        (asks,) = (await asyncio.wait(waiting, timeout=1.0))[0]
        assert asks is waiting[0], "one asks for all: the others are as many requests less"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert (room.in_hand, room.waiting, room.left) == (0, 0, 2 * CAPACITY)


async def test_what_an_owner_grants_late_is_begun_as_there_is_room() -> None:
    """All of it at once would be late: an answer's time counts from its beginning."""
    room = Room(lambda: CAPACITY)
    shards = range(10)
    async with AsyncExitStack() as stack:
        asking = []
        for shard in shards:
            work = msgspec.structs.replace(chunk("c", *MANY[0][:CAPACITY]), shard=shard)
            place = await stack.enter_async_context(room.place(work))
            asking.append(asyncio.create_task(place.until_asked_again(0.0, there=False)))
            await asyncio.sleep(0)
        done, _ = await asyncio.wait(asking, timeout=1.0)
        assert (len(done), room.in_hand, room.left) == (2, 2 * CAPACITY, 0)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
