"""Writing one public stream: pipelined, each message under the sequence that must precede it.

A message of the stream names its place in the journal. Whoever writes next reads the last one and goes on
behind its place, so that nothing is published twice or left out, whoever died when.

Since each message expects the one before it, what is acknowledged proves all that was sent before. So only
the last message of a batch asks for an acknowledgement, which about halves the cost of each event. Streams
that take atomic batches get those: their broker flushes each write, and so does it once a batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from libs.bus.connection import Bus
from libs.bus.errors import BusError, OutcomeUnknown
from libs.bus.publisher import EXPECTED_LAST_SEQUENCE, line, parse_lines
from libs.bus.read import Stored, last_of, message_at, stream_state
from libs.contracts.place import Place, format_place, parse_place
from libs.contracts.streams import PLACE, PROPOSALS
from libs.contracts.traces import TRACEPARENT
from services.compressor.batches import Batches, Message
from services.compressor.folding import Publication

_UNPROVEN = 4096
"""So many messages may be sent and not acknowledged yet, a batch more or less."""

_ANY = "*.>"
"""Every subject. For `>` the broker finds nothing where the message under the last sequence is deleted."""


class PlaceLost(BusError):
    """Nothing in a public stream tells any more how far it holds the journal."""

    def __init__(self, stream: str) -> None:
        super().__init__(
            f"every message that stream {stream} holds was put there by a stranger, so nothing tells how far "
            "it holds the journal; let nobody else publish to perpetua.in.> and restore it from a backup"
        )


class PublicStream:
    """The end of a public stream as this process knows it."""

    def __init__(self, bus: Bus, name: str) -> None:
        self.name = name
        self.place: Place = (0, 0)
        """Place of the last message sent or found."""

        self.sequence = 0
        """The stream's last sequence, after which the next message is to stand."""

        self.last: Stored | None = None
        """The last message of ours that was found when the stream was opened."""

        self._bus = bus
        self._batches: Batches | None = None
        self._broken: OutcomeUnknown | None = None
        self._unproven = 0
        self._proven = asyncio.Event()

    async def open(self) -> None:
        """Learn the stream's end from its leader.

        Place and sequence are one message's own, else later messages could be admitted at wrong places; if
        another writer has moved on, the next send is refused. Only where the messages behind the last one
        have been deleted is the stream's last sequence another.
        """
        last = await self._last()
        info = await self._bus.api(f"STREAM.INFO.{self.name}")
        end = int(info["state"]["last_seq"])
        if last is None or last.sequence != end:
            before, last = last, await self._last()
            if last is not None and last != before:
                end = last.sequence
        self._batches = Batches(self._bus) if info["config"].get("allow_atomic") else None
        self._broken = None
        self._unproven = 0
        self._proven = asyncio.Event()
        self.sequence = end
        self.last = await self._ours_up_to(last)
        self.place = _place_of(self.last)

    async def run(self) -> None:
        """Store what is sent, where that goes in batches; to be run from each opening on.

        Raises `BusError` where a batch was refused, or nothing is known of it.
        """
        if self._batches is not None:
            await self._batches.run()

    async def is_overtaken(self) -> bool:
        """Whether another writer has gone further than this one."""
        last = await self._last()
        return _place_of(await self._ours_up_to(last)) > self.place

    async def _ours_up_to(self, message: Stored | None) -> Stored | None:
        """Return a message, or where it names no place, not being ours, the last one before it that does.

        Raises `PlaceLost` where what is foreign has evicted all that was ours.
        """
        if message is None or PLACE in message.headers:
            return message
        first = int((await stream_state(self._bus, self.name))["first_seq"])
        for sequence in range(message.sequence - 1, first - 1, -1):
            found = await message_at(self._bus, self.name, sequence)
            if found is not None and PLACE in found.headers:
                return found
        if first > 1 and self.name != PROPOSALS:
            raise PlaceLost(self.name)
        return None

    async def _last(self) -> Stored | None:
        return await last_of(self._bus, self.name, _ANY)

    def missing(self, publications: Sequence[Publication]) -> list[Publication]:
        """Return those that do not stand in the stream yet. They come in the order of their places."""
        return [publication for publication in publications if publication.place > self.place]

    async def send(self, publications: Sequence[Publication]) -> asyncio.Future[int]:
        """Publish messages behind the stream's end; the future is the last one's, and proves all of them.

        Raises `OutcomeUnknown` where a message could not be sent, and from then on until opened again: what
        follows it must not take its place.
        """
        while self._unproven > _UNPROVEN:
            self._proven.clear()
            await self._proven.wait()
        if self._broken is not None:
            raise self._broken
        behind = self.sequence
        messages = [self._message(publication) for publication in publications]
        if self._batches is not None:
            future = self._batches.add(messages, behind)
        else:
            future = await self._chained(messages, behind)
        self._count(len(publications), future)
        return future

    async def _chained(self, messages: list[Message], behind: int) -> asyncio.Future[int]:
        chain = [
            (subject, body, f"{EXPECTED_LAST_SEQUENCE}: {sequence}\r\n{lines}")
            for sequence, (subject, body, lines) in enumerate(messages, start=behind)
        ]
        subject, body, lines = chain.pop()
        try:
            await self._bus.publisher.post(chain)
            return await self._bus.publisher.send(subject, body, parse_lines(lines))
        except OutcomeUnknown as error:
            self._broken = error
            raise

    def _message(self, publication: Publication) -> Message:
        """Return a publication as the message that stands at the stream's end from now on."""
        lines = line(PLACE, format_place(publication.place))
        if publication.traceparent is not None:
            lines += line(TRACEPARENT, publication.traceparent)
        self.sequence += 1
        self.place = publication.place
        return publication.subject, bytes(publication.data), lines

    def _count(self, messages: int, future: asyncio.Future[int]) -> None:
        """Count messages until they are proven, or the stream is opened again."""
        self._unproven += messages
        proven = self._proven

        def settled(_: asyncio.Future[int]) -> None:
            if proven is self._proven:
                self._unproven -= messages
                proven.set()

        future.add_done_callback(settled)


def _place_of(message: Stored | None) -> Place:
    return parse_place(message.headers[PLACE]) if message is not None else (0, 0)
