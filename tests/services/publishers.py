"""Publishers of tests, the journal that they publish, and what is to stand in the public streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from libs.bus.connection import Bus
from libs.bus.follow import StreamMessage
from libs.bus.read import Stored
from libs.contracts import streams, subjects
from libs.contracts.journal import PublicRecord
from libs.contracts.place import format_place
from libs.runtime.metrics import ProcessMetrics
from services.compressor.folding import publications
from services.compressor.metrics import CompressorMetrics
from services.compressor.publishing import Publishing
from tests.bus.support import held
from tests.support.eventually import eventually
from tests.unit.make import Tree, shard_record, thought

SHARDS = (1, 2, 3)
_decode = msgspec.json.Decoder(PublicRecord).decode


class Publisher(Publishing):
    """A compressor's publisher that believes itself in charge, whoever else does."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus, lambda: True, CompressorMetrics(ProcessMetrics("compressor", "c", "0")))


@asynccontextmanager
async def publishing(*publishers: Publishing) -> AsyncIterator[None]:
    """Publishers at work; they die as by kill when the context ends."""
    tasks = [asyncio.create_task(one.run()) for one in publishers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def prefill(bus: Bus, records: int = 16, begin: int = 1) -> int:
    """A journal of the registry and three shards: 11 events for 8 thoughts of each of two personas."""
    tree = Tree()
    if begin == 1:
        for shard in SHARDS:
            tree.create(f"p{shard}")
        for _, data in tree.log:
            await bus.publish(subjects.JOURNAL_REGISTRY, data)
    last = 0
    for count in range(begin, begin + records):
        for shard in SHARDS:
            pair = [thought(f"{name}{shard}", count, text=f"{name}{count}.") for name in "pq"]
            last = await bus.publish(subjects.journal(shard), shard_record(*pair, number=count))
    return last


async def wanted(bus: Bus, stream: str) -> list[tuple[str, bytes]]:
    """What the journal makes public in a stream, each with its place, in order."""
    records = await held(bus, streams.JOURNAL)
    all_of_them = [one for r in records for one in publications(_decode(r.data), r.sequence)]
    return [(format_place(one.place), bytes(one.data)) for one in all_of_them if one.stream == stream]


def placed(stored: list[Stored]) -> list[tuple[str, bytes]]:
    return [(message.headers[streams.PLACE], message.data) for message in stored]


async def assert_published(bus: Bus) -> None:
    """Events and snapshots stand in their streams once each and in order; each proposal under its key."""
    for stream in (streams.EVENTS, streams.SNAPSHOTS):
        messages = await held(bus, stream)
        assert placed(messages) == await wanted(bus, stream)
        assert [message.sequence for message in messages] == list(range(1, len(messages) + 1))
    proposals = [message.data for message in await held(bus, streams.PROPOSALS)]
    assert sorted(proposals) == sorted(data for _, data in await wanted(bus, streams.PROPOSALS))


async def count(bus: Bus, stream: str = streams.EVENTS) -> int:
    return int((await bus.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"])


async def through(one: Publishing, last: int) -> None:
    await eventually(lambda: one.position >= last, within=20, what=f"publishing up to {last}")


class Sleeper(Publisher):
    """A publisher that can be stopped between two records, as by SIGSTOP."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        self.awake = asyncio.Event()
        self.awake.set()
        self.asleep = asyncio.Event()
        """Set once a record has come that it sleeps over."""

    async def _take(self, data: bytes, message: StreamMessage) -> None:
        if not self.awake.is_set():
            self.asleep.set()
        await self.awake.wait()
        await super()._take(data, message)


class Late(Publisher):
    """A publisher that knows the ends of the streams, and reads nothing yet."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        self.opened = asyncio.Event()
        self.go_on = asyncio.Event()

    async def _check_same_journal(self) -> None:
        await super()._check_same_journal()
        self.opened.set()
        await self.go_on.wait()
