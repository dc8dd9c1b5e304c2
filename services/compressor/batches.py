"""Messages of a public stream that are stored together or not at all, for brokers that flush each write.

A broker that flushes before it acknowledges does so once for a whole atomic batch. What comes while one is
under way goes into the next, so batches are as large as the disk is slow. Once that is enough the next
is sent at once, so that the broker always has one: it expects the sequence that the one before ends with.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from libs.bus.connection import Bus
from libs.bus.errors import BusError
from libs.bus.publisher import EXPECTED_LAST_SEQUENCE, line, parse_lines

MOST = 1000
"""Messages that the broker takes in one batch."""

UNDER_WAY = 3
"""Batches that may be under way at once."""

WORTHWHILE = 250
"""So many messages are sent while another batch is under way; fewer wait for more."""

_ID, _NUMBER, _COMMIT = "Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"

Message = tuple[str, bytes, str]
"""Subject, body and header lines."""


@dataclass(slots=True)
class _Part:
    messages: list[Message]
    behind: int
    """The stream's last sequence before them."""

    stored: asyncio.Future[int]


class Batches:
    """Stores messages in the order in which they were added."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: deque[_Part] = deque()
        self._count = 0
        """Messages that wait."""

        self._sent: deque[tuple[list[_Part], asyncio.Future[int]]] = deque()
        """Batches under way, and their acknowledgements."""

        self._wake = asyncio.Event()

    def add(self, messages: list[Message], behind: int) -> asyncio.Future[int]:
        """Put messages behind those added before, the first behind that sequence of the stream.

        The future is the last one's sequence, or its refusal.
        """
        loop = asyncio.get_running_loop()
        for at in range(0, len(messages), MOST):
            part = _Part(messages[at : at + MOST], behind + at, loop.create_future())
            self._waiting.append(part)
        self._count += len(messages)
        self._wake.set()
        return part.stored

    async def run(self) -> None:
        """Store what is added. Raises the `BusError` of the first batch that is refused or unknown."""
        try:
            while True:
                self._wake.clear()
                while self._sent and self._sent[0][1].done():
                    self._settle()
                while self._waiting and self._may_send():
                    await self._send(self._next())
                await self._wake.wait()
        except BusError as error:
            _fail((part for parts, _ in self._sent for part in parts), error)
            _fail(self._waiting, error)
            raise

    def _may_send(self) -> bool:
        return not self._sent or (len(self._sent) < UNDER_WAY and self._count >= WORTHWHILE)

    def _next(self) -> list[_Part]:
        taken: list[_Part] = []
        room = MOST
        while self._waiting and len(self._waiting[0].messages) <= room:
            taken.append(self._waiting.popleft())
            room -= len(taken[-1].messages)
        self._count -= MOST - room
        return taken

    async def _send(self, parts: list[_Part]) -> None:
        batch = line(_ID, secrets.token_hex(8))
        messages = [
            (subject, body, f"{batch}{_NUMBER}: {number}\r\n{lines}")
            for number, (subject, body, lines) in enumerate(
                chain(*(part.messages for part in parts)), start=1
            )
        ]
        _add(messages, 0, line(EXPECTED_LAST_SEQUENCE, str(parts[0].behind)))
        _add(messages, -1, line(_COMMIT, "1"))
        subject, body, lines = messages.pop()
        try:
            await self._bus.publisher.post(messages)
            stored = await self._bus.publisher.send(subject, body, parse_lines(lines))
        except BusError as error:
            _fail(parts, error)
            raise
        self._sent.append((parts, stored))
        stored.add_done_callback(self._answered)

    def _answered(self, stored: asyncio.Future[int]) -> None:
        if not stored.cancelled():
            stored.exception()  # that of a batch behind a refused one has nobody else who looks
        self._wake.set()

    def _settle(self) -> None:
        """Tell the parts of the oldest batch where they stand. Raises its `BusError`."""
        last = self._sent[0][1].result()
        parts, _ = self._sent.popleft()
        for part in reversed(parts):
            if not part.stored.done():
                part.stored.set_result(last)
            last -= len(part.messages)


def _add(messages: list[Message], at: int, header: str) -> None:
    subject, body, lines = messages[at]
    messages[at] = (subject, body, lines + header)


def _fail(parts: Iterable[_Part], error: BusError) -> None:
    for part in parts:
        if not part.stored.done():
            part.stored.set_exception(error)
            part.stored.exception()  # those of parts cut off have nobody who looks
