"""Writing one public stream: pipelined, each message under the sequence that must precede it.

A message of the stream names its place in the journal. Whoever writes next reads the last one and goes on
behind its place, so that nothing is published twice or left out, whoever died when.
"""

from __future__ import annotations

import asyncio

import msgspec

from libs.bus.connection import Bus
from libs.bus.publisher import EXPECTED_LAST_SEQUENCE
from libs.bus.read import message_at, stream_state
from libs.contracts.place import Place, format_place, parse_place
from libs.contracts.streams import PLACE


class PublicStream:
    """The end of a public stream as this process knows it."""

    def __init__(self, bus: Bus, name: str) -> None:
        self.name = name
        self.place: Place = (0, 0)
        """Place of the last message sent or found."""

        self._bus = bus
        self._sequence = 0

    async def open(self) -> None:
        """Learn the stream's end from its leader."""
        state = await stream_state(self._bus, self.name)
        self._sequence = int(state["last_seq"])
        last = await message_at(self._bus, self.name, self._sequence) if state["messages"] else None
        self.place = parse_place(last.headers[PLACE]) if last is not None else (0, 0)

    async def send(self, place: Place, subject: str, data: bytes | msgspec.Raw) -> asyncio.Future[int] | None:
        """Publish behind the stream's end and return the future of its ack; None where it stands there."""
        if place <= self.place:
            return None
        headers = {EXPECTED_LAST_SEQUENCE: str(self._sequence), PLACE: format_place(place)}
        future = await self._bus.publisher.send(subject, bytes(data), headers)
        self._sequence += 1
        self.place = place
        return future
