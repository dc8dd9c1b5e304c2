"""Chunks in hand: kept as long as they are thought, by word to the broker, and no longer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg

from libs.bus.connection import Bus
from libs.bus.endpoints import Gate
from libs.bus.loop import MessageLoop
from libs.bus.queue import Puller, Work
from libs.contracts import streams, subjects
from libs.contracts.work import Chunk, Grant, Results, StillThinking
from services.thinker.keeping import Keeping
from services.thinker.results import Owners
from tests.bus.support import Noted, held, running
from tests.bus.test_queue import ack_wait
from tests.support.eventually import eventually
from tests.support.still import without_pause
from tests.thinker.models import backend_of
from tests.thinker.reading import Reading
from tests.unit.make import chunk, item

ACK_WAIT_S = 1.2
LONG_S = 2.5 * ACK_WAIT_S
SHARD = 0


class Thinker:
    """Takes chunks from the queue and has them in hand until the test releases them."""

    def __init__(self, bus: Bus, *, granted: bool = True, most: int = 10) -> None:
        self.keeping = Keeping(Owners(bus, "t"), ACK_WAIT_S)
        self.taken: list[int] = []
        """Deliveries of each chunk that came, so far."""

        self.released = asyncio.Event()
        self.swallows = 0
        """Cancellations that are lost in what handles a chunk."""

        self.told = Noted()
        self._granted = granted
        self._loop = MessageLoop("think", msgspec.json.Decoder(Chunk).decode, self._handle, self.told)
        self._puller = Puller(bus, streams.THINK, streams.THINKERS, self._wanted, self._receive)
        self._most = most
        self._gate = Gate()

    @asynccontextmanager
    async def at_work(self, *, keeps: bool = True) -> AsyncIterator[Thinker]:
        async with self._gate, running(self._puller.run(), *([self.keeping.run()] if keeps else [])):
            await self._puller.bound.wait()
            try:
                yield self
            finally:
                self.released.set()

    def _wanted(self) -> int:
        return self._most

    async def _receive(self, work: Work) -> None:
        self._most -= 1
        await self._gate.admit(self._loop.process(work))

    async def _handle(self, came: Chunk, work: Work) -> None:
        async with self.keeping.keeping(came, work) as in_hand:
            in_hand.granted = self._granted
            self.taken.append(work.deliveries)
            while not self.released.is_set():
                try:
                    await self.released.wait()
                except asyncio.CancelledError:
                    if not self.swallows:
                        raise
                    self.swallows -= 1


async def queue(bus: Bus, wait_s: float = ACK_WAIT_S, *names: str) -> None:
    """Put a chunk into the queue, to be delivered again when nothing is said of it for so long."""
    await ack_wait(bus, wait_s)
    await bus.publish(subjects.think(SHARD), msgspec.json.encode(chunk("c", *names or ("a",))))


async def redelivered(bus: Bus) -> int:
    delivered = (await bus.api(f"CONSUMER.INFO.{streams.THINK}.{streams.THINKERS}"))["delivered"]
    return int(delivered["consumer_seq"]) - int(delivered["stream_seq"])


async def gone(bus: Bus) -> bool:
    return not await held(bus, streams.THINK)


@asynccontextmanager
async def heard(bus: Bus, subject: str) -> AsyncIterator[list[bytes]]:
    """Everything that is said on a subject."""
    said: list[bytes] = []

    async def note(message: Msg) -> None:
        said.append(bytes(message.data))

    async with bus.subscribed(subject, note):
        yield said


async def test_work_that_takes_longer_than_the_broker_waits_stays_with_who_has_it(bus: Bus) -> None:

    async def again() -> tuple[list[int], int]:
        before = await redelivered(bus)
        await queue(bus)
        async with Thinker(bus).at_work() as first:
            await eventually(lambda: first.taken)
            async with Thinker(bus).at_work() as second:
                await asyncio.sleep(LONG_S)
                first.released.set()
                second.released.set()
                await eventually(lambda: gone(bus))
        return second.taken, await redelivered(bus) - before

    assert await without_pause(bus, ACK_WAIT_S / 2, again) == ([], 0)


async def test_work_of_a_thinker_that_says_nothing_any_more_goes_to_another(bus: Bus) -> None:
    """As of one that is stopped in its tracks: nobody else keeps its work."""
    await queue(bus)
    async with Thinker(bus, most=1).at_work(keeps=False) as silent:
        await eventually(lambda: silent.taken == [1])
        async with Thinker(bus).at_work() as other:
            await eventually(lambda: other.taken[:1] == [2])


async def test_of_work_that_has_ended_nothing_more_is_said(bus: Bus) -> None:
    await queue(bus)
    async with (
        heard(bus, "$JS.ACK.>") as to_the_broker,
        heard(bus, subjects.thinking(SHARD)) as to_owners,
        Thinker(bus).at_work() as thinker,
    ):
        await eventually(lambda: to_the_broker.count(b"+WPI") >= 3)
        assert msgspec.json.decode(to_owners[-1], type=StillThinking).chunk == "c"
        thinker.released.set()
        await eventually(lambda: b"+ACK" in to_the_broker)
        told = len(to_owners)
        await asyncio.sleep(LONG_S)
        assert to_the_broker[-1] == b"+ACK"
        assert len(to_owners) == told


async def test_an_owner_hears_nothing_of_what_it_has_not_granted_yet(bus: Bus) -> None:
    await queue(bus)
    async with (
        heard(bus, "$JS.ACK.>") as to_the_broker,
        heard(bus, subjects.thinking(SHARD)) as to_owners,
        Thinker(bus, granted=False).at_work(),
    ):
        await eventually(lambda: to_the_broker.count(b"+WPI") >= 3)
        assert to_owners == []


@pytest.mark.parametrize("swallows", [0, 2])
@pytest.mark.fact("H8")
async def test_a_thinker_that_stops_hands_back_what_it_has_at_once(bus: Bus, swallows: int) -> None:
    """[H8] Long before the broker would give it away, and though a library loses a cancellation or two."""
    await queue(bus, 60.0)
    async with Thinker(bus).at_work() as first:
        await eventually(lambda: first.taken == [1])
        first.swallows = swallows
        async with Thinker(bus).at_work() as second:
            await asyncio.wait_for(first.keeping.hand_back(), 30)
            await eventually(lambda: second.taken)
            assert first.told.outcomes[0] == "retry"
            assert first.taken == [1], "what comes once more is not taken up"
            second.released.set()
            await eventually(lambda: gone(bus))


async def test_who_is_cancelled_by_another_is_cancelled(bus: Bus) -> None:
    keeping = Keeping(Owners(bus, "t"), ACK_WAIT_S)
    nothing: Any = None

    async def have() -> None:
        async with keeping.keeping(chunk("c", "a"), nothing):
            await asyncio.Event().wait()

    task = asyncio.create_task(have())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(keeping.hand_back(), 30)


class Slow:
    """The real generator, in a batch for longer than the broker waits."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self.batches: list[int] = []

    def generate_batch(self, batch: list[list[str]], **options: Any) -> Any:
        self.batches.append(len(batch))
        time.sleep(LONG_S)
        return self._generator.generate_batch(batch, **options)


async def test_a_batch_that_takes_longer_than_the_broker_waits_is_thought_once(bus: Bus, tiny: Path) -> None:
    """The model's threads leave the thinker time to say that it is at it."""

    async def thought() -> tuple[list[int], list[str], int]:
        before = await redelivered(bus)
        batches, settled = await think_slowly(bus, tiny, "a", "b", "c", "d")
        return batches, sorted(settled), await redelivered(bus) - before

    assert await without_pause(bus, ACK_WAIT_S / 2, thought) == ([4], ["a", "b", "c", "d"], 0)


async def think_slowly(bus: Bus, tiny: Path, *names: str) -> tuple[list[int], list[str]]:
    """Think a chunk in a batch that takes long; the rows of each batch, and whose thoughts were settled."""
    made: list[Slow] = []
    settled: list[str] = []

    def around(generator: Any) -> Slow:
        made.append(Slow(generator))
        return made[0]

    async def grant(message: Msg) -> None:
        await message.respond(msgspec.json.encode(Grant(items=[item(name) for name in names])))

    async def settle(message: Msg) -> None:
        results = msgspec.json.decode(message.data, type=Results)
        settled.extend(thought.persona_id for thought in results.thoughts)
        await message.respond(b"{}")

    await queue(bus, ACK_WAIT_S, *names)
    async with backend_of(tiny, around) as (backend, _):
        thinking = Reading(backend, Owners(bus, "t")).thinking
        thinking.keeping = Keeping(Owners(bus, "t"), ACK_WAIT_S)
        loop = MessageLoop("think", msgspec.json.Decoder(Chunk).decode, thinking.handle, Noted())
        gate = Gate()

        async def receive(work: Work) -> None:
            await gate.admit(loop.process(work))

        puller = Puller(bus, streams.THINK, streams.THINKERS, lambda: 4, receive)
        async with (
            bus.subscribed(subjects.grant(SHARD), grant),
            bus.subscribed(subjects.result(SHARD), settle),
            gate,
            running(puller.run(), thinking.keeping.run()),
        ):
            await eventually(lambda: gone(bus), what="the chunk's end")
    return made[0].batches, settled
