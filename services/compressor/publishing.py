"""Copying the journal, in stream order, into the public streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec
import structlog

from libs.bus.connection import Bus
from libs.bus.errors import UNREADABLE, ApiRefused, BusError, NoAnswer, StreamRewound
from libs.bus.follow import Follower, StreamMessage
from libs.bus.loop import MessageLoop
from libs.bus.queue import bury
from libs.bus.read import message_at, stream_state
from libs.concurrency.tasks import Background, leaves
from libs.concurrency.waiting import BackOff, set_within
from libs.contracts import streams, subjects
from libs.contracts.journal import Position, PublicRecord
from libs.journal.tail import JournalHole
from libs.tracing.spans import Span
from services.compressor.folding import Publication, publications
from services.compressor.metrics import CompressorMetrics
from services.compressor.progress import Progress
from services.compressor.public_stream import PlaceLost, PublicStream
from services.compressor.tracing import begin_publishing

log = structlog.get_logger("publishing")

_decode = msgspec.json.Decoder(PublicRecord).decode

_STANDBY_LOOK_S = 0.25
_RETRY_S = 0.1
_RETRY_MOST_S = 2.0
_SETTLED_S = 20.0
"""A session that lasted so many seconds was a good one."""
_HOPELESS_S = 10.0
_SAY_S = 0.02
_REPEAT_S = 0.4
_REPEAT_MOST_S = 2.0


class Superseded(BusError):
    """Another compressor publishes now."""

    def __init__(self) -> None:
        super().__init__("another compressor publishes now")


class AnotherJournal(BusError):
    """The journal is not the one that the events were published from."""

    def __init__(self, sequence: int) -> None:
        super().__init__(
            f"record {sequence} of the journal is not the one that was published last, or is not there: the "
            "broker lost the journal's end, and the public streams are ahead of it; restore all from one "
            "backup"
        )


class Publishing:
    """Publishes while this compressor is in charge; begins anew behind the streams' ends after any fault.

    A refused or unknown publish ends the session: what came after it in the pipeline was refused with it.
    Of a record's events, snapshots and proposals only the last each is acknowledged, and proves the others.

    What another publishes meanwhile takes the places that it has here, for both read all records. Where some
    are missing, being public and trimmed by now, what follows them would be sent for their places, and could
    be stored there. So then each stream is looked at before anything more is sent to it.
    """

    def __init__(
        self,
        bus: Bus,
        in_charge: Callable[[], bool],
        metrics: CompressorMetrics,
        note: Callable[[PublicRecord, int], None] = lambda record, sequence: None,
        moved: Callable[[int], None] = lambda position: None,
    ) -> None:
        """`note` is told each record, and again what is read again; `moved` each new position."""
        self.publishes = asyncio.Event()
        """Set while a session is under way."""

        self._bus = bus
        self._in_charge = in_charge
        self._metrics = metrics
        self._note = note
        self._told = moved
        self._events = PublicStream(bus, streams.EVENTS)
        others = (PublicStream(bus, streams.SNAPSHOTS), PublicStream(bus, streams.PROPOSALS))
        self._targets = (self._events, *others)
        self._moved = asyncio.Event()
        self._progress = Progress(0)
        self._numbers: dict[str, tuple[int, int]] = {}
        """By subject, the number of the last record read, and its sequence."""

        self._read = 0
        """Sequence of the last record read."""

        self._unsure: set[str] = set()
        """Streams in which another may have gone further than this one has read."""

        self._untrimmed_behind = 0
        self._set_aside_through = 0
        self._follower: Follower | None = None
        self._failed: asyncio.Future[None] | None = None

    @property
    def position(self) -> int:
        """Journal sequence up to which everything is public."""
        return self._progress.position

    async def run(self) -> None:
        """Publish until cancelled. Raises `Fatal` where the journal has lost a record."""
        back_off, clock = BackOff(_RETRY_S, _RETRY_MOST_S), asyncio.get_running_loop().time
        while True:
            if not self._in_charge():
                await asyncio.sleep(_STANDBY_LOOK_S)
                continue
            began, hopeless = clock(), False
            try:
                await self._session()
            except* BusError as group:
                hopeless = self._note_end(group)
            self.publishes.clear()
            if clock() - began > _SETTLED_S:
                back_off.reset()
            await asyncio.sleep(_HOPELESS_S if hopeless else back_off.next())

    async def flush(self) -> None:
        """Return once what the journal holds now is public; at once where another compressor publishes."""
        if self._follower is None or not self.publishes.is_set():
            return
        state = await stream_state(self._bus, streams.JOURNAL)
        await self._follower.reached(int(state["last_seq"]))
        while self._progress.outstanding:  # noqa: ASYNC110 - acks signal only their own futures
            await asyncio.sleep(_SAY_S)

    def _note_end(self, group: ExceptionGroup[BusError]) -> bool:
        """Say why a session ended, and return whether the next one will end by the same."""
        errors = list(leaves(group))
        hopeless = any(isinstance(error, AnotherJournal | PlaceLost | StreamRewound) for error in errors)
        note = log.error if hopeless else log.info
        note("publishing_begins_anew", reason="; ".join(str(error) for error in errors))
        return hopeless

    async def _session(self) -> None:
        for target in self._targets:
            await target.open()
        await self._check_same_journal()
        begin = min(target.place for target in self._targets)[0]
        self._read = max(begin - 1, 0)
        self._progress = Progress(self._read, self._moved.set)
        self._unsure = set()
        self._numbers = {}
        self._untrimmed_behind = max(target.place for target in self._targets)[0]
        self._failed = asyncio.get_running_loop().create_future()
        loop = MessageLoop("publish", bytes, self._take, self._metrics.telemetry)
        self._follower = Follower(self._bus, streams.JOURNAL, loop, after=self._read)
        log.info("publishing", behind=begin)
        self.publishes.set()
        async with Background() as tasks:
            tasks.create_task(self._follower.run(), name="follow-journal")
            tasks.create_task(self._say_position(), name="say-position")
            for target in self._targets:
                tasks.create_task(target.run(), name=f"store-{target.name}")
            await self._failed

    async def _check_same_journal(self) -> None:
        """Raise `AnotherJournal` where the last event's record is another one by now.

        A broker that has lost the journal's tail, and not the events', gives its sequences out anew.
        """
        end = int((await stream_state(self._bus, streams.JOURNAL))["last_seq"])
        furthest = max(target.place for target in self._targets)[0]
        if end < furthest:
            raise AnotherJournal(furthest)
        place, event = self._events.place, self._events.last
        stored = await message_at(self._bus, streams.JOURNAL, place[0]) if place > (0, 0) else None
        if stored is None or event is None:  # trimmed, as records are that are public
            return
        with suppress(*UNREADABLE):
            for one in publications(_decode(stored.data), stored.sequence):
                if (one.stream, one.place, bytes(one.data)) == (streams.EVENTS, place, event.data):
                    return
        raise AnotherJournal(place[0])

    async def _take(self, data: bytes, message: StreamMessage) -> None:
        if self._failed is None or self._failed.done():  # what is sent now could follow a hole
            return None
        if message.sequence != self._read + 1:
            self._unsure = {target.name for target in self._targets}
        self._read = message.sequence
        try:
            record = _decode(data)
            wanted = publications(record, message.sequence)
        except UNREADABLE as error:
            return await self._set_aside(message, f"no record of the journal: {error}")
        return await self._publish(record, wanted, message)

    async def _set_aside(self, message: StreamMessage, reason: str) -> None:
        """Keep a copy of what a stranger put into the journal, once, and go on."""
        if message.sequence <= self._set_aside_through:
            return
        log.error("not_a_record", subject=message.subject, sequence=message.sequence, reason=reason)
        try:
            await bury(self._bus, streams.JOURNAL, message.subject, bytes(message.data), reason, 1)
        except BusError as error:
            _fail(self._failed, error)
        else:
            self._set_aside_through = message.sequence

    async def _publish(self, record: PublicRecord, wanted: list[Publication], message: StreamMessage) -> None:
        try:
            await self._check_number(record, message.subject, message.sequence)
        except (NoAnswer, ApiRefused, Superseded) as error:
            return _fail(self._failed, error)
        self._note(record, message.sequence)
        self._progress.begin(message.sequence, len(self._targets) + 1)
        spans: dict[str, Span] = {}
        if self._bus.tracer is not None and (record.traces or record.event_traces):
            wanted, spans = begin_publishing(self._bus.tracer, wanted)
        try:
            for target in self._targets:
                await self._send(target, wanted, message.sequence, spans)
        except (NoAnswer, ApiRefused, PlaceLost, Superseded) as error:
            return _fail(self._failed, error)
        return self._progress.stored(message.sequence)

    async def _check_number(self, record: PublicRecord, subject: str, sequence: int) -> None:
        """Raise `JournalHole` where an owner's records do not follow each other.

        What was public when the session began is read again, and may be trimmed meanwhile: from a subject's
        first record on, so the one before the gap is gone as well. Where another compressor has gone
        further, this one was stopped, and its owners trimmed: `Superseded`.
        """
        if record.number is None:
            return
        number, at = self._numbers.get(subject, (record.number - 1, sequence))
        if record.number != number + 1:
            if await self._events.is_overtaken():
                raise Superseded
            if at > self._untrimmed_behind or await message_at(self._bus, streams.JOURNAL, at) is not None:
                raise JournalHole(subject, number + 1, record.number)
        self._numbers[subject] = record.number, sequence

    async def _send(
        self, target: PublicStream, wanted: list[Publication], sequence: int, spans: dict[str, Span]
    ) -> None:
        missing = target.missing([one for one in wanted if one.stream == target.name])
        if not missing:
            self._progress.stored(sequence)
            return
        if target.name in self._unsure and await target.is_overtaken():
            raise Superseded
        self._unsure.discard(target.name)
        stored = await target.send(missing)
        self._when_stored(stored, missing, sequence, spans if target is self._events else {})

    def _when_stored(
        self, future: asyncio.Future[int], sent: list[Publication], sequence: int, spans: dict[str, Span]
    ) -> None:
        """Count what was sent once it is acknowledged; end the session where it is refused."""
        progress, failed = self._progress, self._failed

        def settled(done: asyncio.Future[int]) -> None:
            if done.cancelled():
                return
            if (error := done.exception()) is not None:
                _fail(failed, error)
            else:
                self._metrics.stored(sent)
                for span in spans.values():
                    span.end()
                progress.stored(sequence)

        future.add_done_callback(settled)

    async def _say_position(self) -> None:
        """Tell owners how far they may trim: at once when it moves, and again and again for newcomers.

        While nothing moves it is said more and more seldom, as it is less and less likely that somebody has
        not heard it.
        """
        again, said = BackOff(_REPEAT_S, _REPEAT_MOST_S), -1
        while True:
            if not self._in_charge():
                raise Superseded
            self._moved.clear()
            position = self._progress.position
            self._metrics.position.set(position)
            await self._bus.note(subjects.POSITION, Position(sequence=position))
            if position != said:
                said = position
                self._told(said)
                again.reset()
            await asyncio.sleep(_SAY_S)
            await set_within(self._moved, again.next())


def _fail(session: asyncio.Future[None] | None, error: BaseException) -> None:
    """End a session."""
    if session is not None and not session.done():
        session.set_exception(error)
