"""Messages of a public stream that are stored together or not at all, for brokers that flush each write.

A broker that flushes before it acknowledges does so once for a whole atomic batch. One batch is under way at
a time; what comes meanwhile goes into the next, so batches are as large as the disk is slow.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from libs.bus.connection import Bus
from libs.bus.errors import BusError
from libs.bus.publisher import EXPECTED_LAST_SEQUENCE

MOST = 1000
"""Messages that the broker takes in one batch."""

_ID, _NUMBER, _COMMIT = "Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"

Message = tuple[str, bytes, dict[str, str]]
"""Subject, body and headers; the header of the expected last sequence counts for a batch's first alone."""


@dataclass(slots=True)
class _Part:
    messages: list[Message]
    stored: asyncio.Future[int]


class Batches:
    """Stores messages in the order in which they were added."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: deque[_Part] = deque()
        self._wake = asyncio.Event()

    def add(self, messages: list[Message]) -> asyncio.Future[int]:
        """Put messages behind those added before; the future is the last one's sequence, or its refusal."""
        loop = asyncio.get_running_loop()
        for at in range(0, len(messages), MOST):
            part = _Part(messages[at : at + MOST], loop.create_future())
            self._waiting.append(part)
        self._wake.set()
        return part.stored

    async def run(self) -> None:
        """Store what is added. Raises the `BusError` of the first batch that is refused or unknown."""
        try:
            while True:
                self._wake.clear()
                while self._waiting:
                    await self._store(self._next())
                await self._wake.wait()
        except BusError as error:
            _fail(self._waiting, error)
            raise

    def _next(self) -> list[_Part]:
        taken: list[_Part] = []
        room = MOST
        while self._waiting and len(self._waiting[0].messages) <= room:
            taken.append(self._waiting.popleft())
            room -= len(taken[-1].messages)
        return taken

    async def _store(self, parts: list[_Part]) -> None:
        messages = [message for part in parts for message in part.messages]
        identifier = secrets.token_hex(8)
        for number, (_, _, headers) in enumerate(messages, start=1):
            headers[_ID], headers[_NUMBER] = identifier, str(number)
            if number > 1:
                del headers[EXPECTED_LAST_SEQUENCE]
        messages[-1][2][_COMMIT] = "1"
        try:
            await self._bus.publisher.post(messages[:-1])
            last = await self._bus.publisher.publish(*messages[-1])
        except BusError as error:
            _fail(parts, error)
            raise
        for part in reversed(parts):
            if not part.stored.done():
                part.stored.set_result(last)
            last -= len(part.messages)


def _fail(parts: Iterable[_Part], error: BusError) -> None:
    for part in parts:
        if not part.stored.done():
            part.stored.set_exception(error)
            part.stored.exception()  # those of parts cut off have nobody who looks
