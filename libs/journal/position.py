"""How far the public streams hold the journal, as their publisher says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
from nats.aio.msg import Msg

from libs.bus.connection import Bus
from libs.bus.endpoints import was_sent_to
from libs.bus.errors import UNREADABLE
from libs.contracts import subjects
from libs.contracts.journal import Position

_decode = msgspec.json.Decoder(Position).decode


class PublicPosition:
    """The publisher's position: journal records up to `sequence` stand in the public streams.

    It is said several times a second, so a lost message only delays. It never goes back.
    """

    def __init__(self) -> None:
        self.sequence = 0
        self._waiters: set[asyncio.Event] = set()

    def advance(self, sequence: int) -> None:
        """Take note of a position."""
        if sequence <= self.sequence:
            return
        self.sequence = sequence
        for waiter in self._waiters:
            waiter.set()

    async def reached(self, sequence: int) -> None:
        """Return once the public streams hold the journal up to a sequence."""
        waiter = asyncio.Event()
        self._waiters.add(waiter)
        try:
            while self.sequence < sequence:
                waiter.clear()
                await waiter.wait()
        finally:
            self._waiters.discard(waiter)


@asynccontextmanager
async def watch_position(bus: Bus) -> AsyncIterator[PublicPosition]:
    """Listen to the publisher while the context is open."""
    position = PublicPosition()

    async def receive(message: Msg) -> None:
        with suppress(*UNREADABLE):  # a stranger's
            if was_sent_to(subjects.POSITION, message.subject):
                position.advance(_decode(message.data).sequence)

    async with bus.subscribed(subjects.POSITION, receive):
        yield position
