"""When batches of public events go to the broker, and what becomes of them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest

from libs.bus.connection import Bus
from libs.bus.errors import BusError, OutcomeUnknown
from libs.bus.publisher import EXPECTED_LAST_SEQUENCE, parse_lines
from services.compressor.batches import MOST, UNDER_WAY, WORTHWHILE, Batches, Message


class Broker:
    """Stands for the bus and its publisher: acknowledges when it is told to."""

    def __init__(self) -> None:
        self.publisher = self
        self.batches: list[tuple[list[dict[str, str]], asyncio.Future[int]]] = []
        """The headers of each message of each batch, and the batch's acknowledgement."""

        self._posted: list[dict[str, str]] = []

    @property
    def sizes(self) -> list[int]:
        return [len(headers) for headers, _ in self.batches]

    async def post(self, messages: Sequence[Message]) -> None:
        self._posted += [parse_lines(lines) for _, _, lines in messages]

    async def send(self, subject: str, data: bytes, headers: dict[str, str]) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.batches.append(([*self._posted, headers], future))
        self._posted = []
        return future


@asynccontextmanager
async def storing(broker: Broker) -> AsyncIterator[tuple[Batches, asyncio.Task[None]]]:
    batches = Batches(cast("Bus", broker))
    task = asyncio.create_task(batches.run())
    try:
        yield batches, task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, BusError):
            await task


def messages(count: int) -> list[Message]:
    return [("s", b"", "P: 1.1\r\n")] * count


async def turn() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_few_messages_wait_for_the_batch_under_way_and_enough_of_them_do_not() -> None:
    broker = Broker()
    async with storing(broker) as (batches, _):
        batches.add(messages(1), 0)
        await turn()
        batches.add(messages(WORTHWHILE - 1), 0)
        await turn()
        assert broker.sizes == [1]
        batches.add(messages(1), 0)
        await turn()
        assert broker.sizes == [1, WORTHWHILE]
        for _ in range(UNDER_WAY):
            batches.add(messages(MOST), 0)
            await turn()
        assert broker.sizes == [1, WORTHWHILE] + [MOST] * (UNDER_WAY - 2)
        broker.batches[0][1].set_result(1)
        await turn()
        assert broker.sizes == [1, WORTHWHILE] + [MOST] * (UNDER_WAY - 1)


async def test_each_part_is_told_where_its_last_message_stands() -> None:
    broker = Broker()
    async with storing(broker) as (batches, _):
        parts = [batches.add(messages(count), behind) for count, behind in ((2, 10), (3, 12))]
        await turn()
        broker.batches[0][1].set_result(15)
        assert await asyncio.gather(*parts) == [12, 15]
    (stored, _), *others = broker.batches
    assert not others
    assert [headers.get(EXPECTED_LAST_SEQUENCE) for headers in stored] == ["10"] + [None] * 4
    assert [headers.get("Nats-Batch-Commit") for headers in stored] == [None] * 4 + ["1"]
    assert [headers["Nats-Batch-Sequence"] for headers in stored] == ["1", "2", "3", "4", "5"]
    assert [headers["P"] for headers in stored] == ["1.1"] * 5


async def test_a_refusal_fails_what_is_under_way_and_what_waits() -> None:
    broker = Broker()
    async with storing(broker) as (batches, task):
        parts = []
        for count in (1, WORTHWHILE, 5):
            parts.append(batches.add(messages(count), 0))
            await turn()
        broker.batches[0][1].set_exception(OutcomeUnknown("s", "gone"))
        with pytest.raises(OutcomeUnknown):
            await task
        assert [type(part.exception()) for part in parts] == [OutcomeUnknown] * 3


async def test_a_refusal_that_comes_after_the_end_is_no_news() -> None:
    """Where another stream's refusal has ended the session, batches under way are refused later."""
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
    broker = Broker()
    async with storing(broker) as (batches, _):
        batches.add(messages(1), 0)
        await turn()
    broker.batches.pop()[1].set_exception(OutcomeUnknown("s", "gone"))
    await turn()
    del batches
    gc.collect()
    assert said == []
