"""Writing one public stream: pipelined, each message under the sequence that must precede it.

A message of the stream names its place in the journal. Whoever writes next reads the last one and goes on
behind its place, so that nothing is published twice or left out, whoever died when.
"""

from __future__ import annotations

import asyncio

import msgspec

from libs.bus.connection import Bus
from libs.bus.errors import OutcomeUnknown
from libs.bus.publisher import EXPECTED_LAST_SEQUENCE
from libs.bus.read import Stored, last_of, stream_state
from libs.contracts.place import Place, format_place, parse_place
from libs.contracts.streams import PLACE

_ANY = "*.>"
"""Every subject. For `>` the broker finds nothing where the message under the last sequence is deleted."""


class PublicStream:
    """The end of a public stream as this process knows it."""

    def __init__(self, bus: Bus, name: str) -> None:
        self.name = name
        self.place: Place = (0, 0)
        """Place of the last message sent or found."""

        self.sequence = 0
        """The stream's last sequence, after which the next message is to stand."""

        self._bus = bus
        self._broken: OutcomeUnknown | None = None

    async def open(self) -> None:
        """Learn the stream's end from its leader.

        Place and sequence are one message's own, else later messages could be admitted at wrong places; if
        another writer has moved on, the next send is refused. Only where the messages behind the last one
        have been deleted is the stream's last sequence another.
        """
        last = await self._last()
        end = int((await stream_state(self._bus, self.name))["last_seq"])
        if last is None or last.sequence != end:
            before, last = last, await self._last()
            if last is not None and last != before:
                end = last.sequence
        self._broken = None
        self.sequence = end
        self.place = parse_place(last.headers[PLACE]) if last is not None else (0, 0)

    async def _last(self) -> Stored | None:
        return await last_of(self._bus, self.name, _ANY)

    async def send(self, place: Place, subject: str, data: bytes | msgspec.Raw) -> asyncio.Future[int] | None:
        """Publish behind the stream's end and return the future of its ack; None where it stands there.

        Raises `OutcomeUnknown` where a message could not be sent, and from then on until opened again: what
        follows it must not take its place.
        """
        if place <= self.place:
            return None
        if self._broken is not None:
            raise self._broken
        headers = {EXPECTED_LAST_SEQUENCE: str(self.sequence), PLACE: format_place(place)}
        try:
            future = await self._bus.publisher.send(subject, bytes(data), headers)
        except OutcomeUnknown as error:
            self._broken = error
            raise
        self.sequence += 1
        self.place = place
        return future
