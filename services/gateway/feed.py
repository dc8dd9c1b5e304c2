"""Live events for any number of clients over one consumer.

The feed keeps the newest frames in a ring. A client is a cursor: it takes what follows from the ring, or
from the stream where it has fallen behind the ring, so a slow client costs nobody memory and loses nothing
that the stream still holds. What the stream has evicted is told by one `lag` with the exact number.

The stream is followed only while there are clients, and a little longer: events that nobody waits for are
not delivered here. Where the ring begins again is asked of the stream, behind every client's beginning.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from libs.bus.connection import Bus
from libs.bus.errors import ApiRefused, BusError, NoAnswer
from libs.bus.follow import Follower, StreamMessage
from libs.bus.loop import MessageLoop
from libs.bus.patience import until_answered
from libs.bus.telemetry import Telemetry
from libs.concurrency.tasks import Background
from libs.concurrency.waiting import set_within
from libs.contracts import streams
from libs.contracts.refusals import Unavailable
from libs.contracts.thoughts import EventType
from services.gateway.event_log import read_after

log = structlog.get_logger("feed")

KEEP_ALIVE_S = 15.0
"""A sign of life this often, in seconds, keeps proxies from closing a quiet stream [5.3]."""

LINGER_S = 5.0
"""Seconds for which the stream is followed after the last client has gone: it may only be reconnecting."""

_WAKE_EVERY_S = 0.0002
_WAKE_AT_MOST_S = 0.1
"""Clients are woken at most once in so many seconds a client: what came meanwhile is sent together.

One client gets each event at once. For 500, each event by itself would take several processors.
"""

_CLIENTS = 1000
_RING_FRAMES = 4096
_RING_BYTES = 8 * 1024 * 1024
_TAKEN_AT_ONCE = 256
_BYTES_AT_ONCE = 128 * 1024
"""Of frames that a client is sent together: they wait in memory for one that reads slowly."""

_READ_RETRY_S = 0.5
_KNOWN = frozenset(EventType)


@dataclass(frozen=True, slots=True)
class Frame:
    """An event as it goes over the wire."""

    sequence: int
    data: bytes


def frame(sequence: int, subject: str, event: bytes) -> Frame:
    """Return an event's frame; types of this project's own are sent under another name [3.14]."""
    name = b"cognition" if subject.rpartition(".")[2] in _KNOWN else b"perpetua"
    return Frame(sequence, b"id: %d\nevent: %b\ndata: %b\n\n" % (sequence, name, event))


def lag(skipped: int, last: int) -> bytes:
    """Return the frame that tells how many events were evicted before they could be sent."""
    return b"id: %d\nevent: lag\ndata: skipped %d\n\n" % (last, skipped)


def comment(text: str) -> bytes:
    """Return a comment, which clients ignore."""
    return f": {text}\n\n".encode()


class Feed:
    """The newest frames, and whoever waits for the next one."""

    def __init__(
        self,
        bus: Bus,
        telemetry: Telemetry,
        linger: float = LINGER_S,
        *,
        keep_alive: float = KEEP_ALIVE_S,
        most_clients: int = _CLIENTS,
    ) -> None:
        self.last = 0
        """Sequence of the newest event known; the stream has newer ones while it is not followed."""

        self.clients = 0
        self.keep_alive = keep_alive
        self._most_clients = most_clients
        self._bus = bus
        self._loop = MessageLoop("feed", bytes, self._take, telemetry)
        self._linger = linger
        self._wanted, self._deserted = asyncio.Event(), asyncio.Event()
        self._ring: deque[Frame] = deque()
        self._bytes = 0
        self._most = _RING_FRAMES
        self._closing = False
        self._moved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._woken_at = 0.0
        self._waking: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Follow the stream whenever there are clients, until cancelled."""
        while True:
            await self._wanted.wait()
            await until_answered(self._bus, "learning where the events end", self._learn_end)
            self._wake()
            async with Background() as tasks:
                follower = Follower(self._bus, streams.EVENTS, self._loop, after=self.last)
                tasks.create_task(follower.run(), name="follow-events")
                await self._until_nobody_listens()
            self._forget()

    async def _learn_end(self) -> None:
        """Learn where the stream ends, and its bound: what it has evicted is not kept here, either."""
        try:
            info = await self._bus.api(f"STREAM.INFO.{streams.EVENTS}")
        except ApiRefused as error:
            raise NoAnswer(streams.EVENTS, str(error)) from error
        self.last = int(info["state"]["last_seq"])
        bound = int(info["config"]["max_msgs"])
        self._most = min(_RING_FRAMES, bound) if bound > 0 else _RING_FRAMES

    async def _until_nobody_listens(self) -> None:
        """Return once there has been no client for a while."""
        await self._deserted.wait()
        while await set_within(self._wanted, self._linger):
            await self._deserted.wait()

    def close(self) -> None:
        """End every client's stream; each resumes at another gateway, or here after a restart."""
        self._closing = True
        self._wake()

    def check_room(self) -> None:
        """Raise `Unavailable` where as many clients follow as may."""
        if self.clients >= self._most_clients:
            raise Unavailable(f"{self._most_clients} clients follow the event stream already")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Count one client more while the context is open. Raises as `check_room` does."""
        self.check_room()
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        self.clients += change
        now, then = (self._wanted, self._deserted) if self.clients else (self._deserted, self._wanted)
        now.set()
        then.clear()

    async def frames(self, cursor: int, alive: bytes) -> AsyncGenerator[bytes]:
        """Yield what follows a sequence, as it comes, until the feed is closed; for who has a place.

        `alive` is what is sent as the sign of life.
        """
        clock = asyncio.get_running_loop().time
        alive_due = clock() + self.keep_alive
        while not self._closing:
            moved = self._moved
            if cursor < self.last:
                data, cursor = await self._next(cursor)
                if data:
                    yield data
            else:
                await asyncio.wait([moved], timeout=max(alive_due - clock(), 0))
            if clock() >= alive_due:
                alive_due = clock() + self.keep_alive
                yield alive

    async def _next(self, cursor: int) -> tuple[bytes, int]:
        """Return the next frames behind a cursor, and the cursor behind them."""
        frames = self._from_ring(cursor)
        if frames is None:
            frames = await self._from_stream(cursor)
        if not frames:
            await asyncio.sleep(_READ_RETRY_S)
            return b"", cursor
        # Behind 0 stands whatever is the oldest by now: nobody has missed what was before it.
        missing = frames[0].sequence - cursor - 1 if cursor else 0
        before = lag(missing, frames[0].sequence - 1) if missing else b""
        return before + b"".join(f.data for f in frames), frames[-1].sequence

    def _from_ring(self, cursor: int) -> list[Frame] | None:
        if not self._ring or cursor + 1 < self._ring[0].sequence:
            return None
        begin = cursor + 1 - self._ring[0].sequence
        taken: list[Frame] = []
        room = _BYTES_AT_ONCE
        for i in range(begin, min(begin + _TAKEN_AT_ONCE, len(self._ring))):
            frame = self._ring[i]
            room -= len(frame.data)
            if taken and room < 0:
                break
            taken.append(frame)
        return taken

    async def _from_stream(self, cursor: int) -> list[Frame]:
        """Read on in the stream; nothing while the broker is away."""
        try:
            stored = await read_after(
                self._bus, streams.EVENTS, cursor, _TAKEN_AT_ONCE, most_bytes=_BYTES_AT_ONCE
            )
        except BusError as error:
            log.debug("backlog_not_read", error=str(error))
            return []
        return [_framed(s.sequence, s.subject, s.headers, s.data) for s in stored]

    async def _take(self, data: bytes, message: StreamMessage) -> None:
        new = _framed(message.sequence, message.subject, message.headers, data)
        if self._ring and new.sequence != self._ring[-1].sequence + 1:
            self._forget()
        self._ring.append(new)
        self._bytes += len(new.data)
        while len(self._ring) > self._most or self._bytes > _RING_BYTES:
            self._bytes -= len(self._ring.popleft().data)
        self.last = new.sequence
        self._wake_soon()

    def _forget(self) -> None:
        self._ring.clear()
        self._bytes = 0

    def _wake_soon(self) -> None:
        """Wake the clients, unless that was just done or is about to be."""
        if self._waking is not None:
            return
        loop = asyncio.get_running_loop()
        due = self._woken_at + min(self.clients * _WAKE_EVERY_S, _WAKE_AT_MOST_S)
        if due <= loop.time():
            self._wake()
        else:
            self._waking = loop.call_at(due, self._wake)

    def _wake(self) -> None:
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
        self._woken_at = asyncio.get_running_loop().time()
        moved, self._moved = self._moved, asyncio.get_running_loop().create_future()
        moved.set_result(None)


def _framed(sequence: int, subject: str, headers: dict[str, str], data: bytes) -> Frame:
    """Return a message's frame; what a stranger put into the stream is only mentioned."""
    if streams.PLACE in headers:
        return frame(sequence, subject, data)
    return Frame(sequence, comment(f"{sequence} is no event"))
