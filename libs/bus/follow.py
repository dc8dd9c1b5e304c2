"""Reading a stream in order, without gaps, for as long as the process lives.

An ephemeral push consumer with flow control delivers; it is made anew, from the message after the last
one handled, after every reconnect, gap or silence. (A stream read through nats-py's ordered consumer
stalls up to 15 s after a reconnect.) The handler sees each message once, in stream order.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from libs.bus.connection import Bus
from libs.bus.errors import ApiRefused, BusError, NoAnswer, StreamRewound
from libs.bus.heartbeats import HEARTBEAT_S, SECOND, SILENCE_S
from libs.bus.loop import Fatal, MessageLoop, Outcome, Refused, RetryLater
from libs.bus.read import last_of, stream_state
from libs.concurrency.tasks import beside
from libs.concurrency.waiting import BackOff

log = structlog.get_logger("follow")

_INACTIVE_S = 10.0
_RETRY_S = 0.25
_RETRY_MOST_S = 2.0
_BUFFERED = 65_536
_ANY = "*.>"


@dataclass(slots=True)
class StreamMessage:
    """A stored message, delivered in order. It must be handled, or be none that anybody can read.

    What a stranger put into the stream is logged by its loop and passed over: it is nobody's record.
    """

    subject: str
    data: bytes
    sequence: int
    headers: dict[str, str]
    pending: int
    """How many messages of the filter wait behind this one."""

    at: float = 0.0
    """Wall time in seconds at which the broker stored it."""

    async def settle(self, outcome: Outcome) -> None:
        """Accept `Done` and `Dead`; raise `Fatal` for the rest: an ordered read cannot skip a message."""
        if isinstance(outcome, RetryLater):
            raise Fatal(f"message {self.sequence} on {self.subject}: {outcome.reason}")
        if isinstance(outcome, Refused):
            raise Fatal(f"message {self.sequence} on {self.subject}: {outcome.refusal.detail}")


class Follower:
    """Feeds a stream's messages with sequence > `after` to a loop, one at a time: all, or those of subjects.

    `run` returns only by an error. `position` is the sequence of the last message handled.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        loop: MessageLoop[Any, StreamMessage],
        *,
        after: int = 0,
        subjects: Sequence[str] = (),
    ) -> None:
        self.position = after
        self._bus = bus
        self._stream = stream
        self._loop = loop
        self._subjects = list(subjects)
        self._inbox: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._subscription: Subscription | None = None
        self._consumer_sequence = 0
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled. Raises `StreamRewound`, `Fatal`, or what the handler must not raise."""
        back_off = BackOff(_RETRY_S, _RETRY_MOST_S)
        with self._bus.on_reconnect(self._begin_anew):
            try:
                while True:
                    if await self._open():
                        back_off.reset()
                        await self._drain()
                    else:
                        await asyncio.sleep(back_off.next())
            finally:
                await self._unsubscribe()

    async def reached(self, sequence: int) -> None:
        """Return once every message up to `sequence`, which must be there, is handled."""
        while self.position < sequence:
            self._moved.clear()
            await self._moved.wait()

    async def _open(self) -> bool:
        await self._unsubscribe()
        self._inbox = asyncio.Queue()
        self._consumer_sequence = 0
        deliver = self._bus.client.new_inbox()
        self._subscription = await self._bus.subscribe(
            deliver, self._receiver(self._inbox), pending_msgs_limit=_BUFFERED, pending_bytes_limit=-1
        )
        try:
            await self._check_not_rewound()
            name = f"follow-{secrets.token_hex(6)}"
            await self._bus.api(f"CONSUMER.CREATE.{self._stream}.{name}", self._config(name, deliver))
        except (NoAnswer, ApiRefused) as error:
            log.debug("cannot_follow_yet", stream=self._stream, error=str(error))
            return False
        return True

    def _receiver(self, inbox: asyncio.Queue[Msg | None]) -> Callable[[Msg], Awaitable[None]]:
        async def receive(message: Msg) -> None:
            inbox.put_nowait(message)

        return receive

    async def _check_not_rewound(self) -> None:
        last = int((await stream_state(self._bus, self._stream))["last_seq"])
        if last < self.position:
            raise StreamRewound(self._stream, self.position, last)

    def _config(self, name: str, deliver: str) -> dict[str, Any]:
        config: dict[str, Any] = {
            "name": name,
            "deliver_subject": deliver,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.position + 1,
            "ack_policy": "none",
            "replay_policy": "instant",
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT_S * SECOND),
            "inactive_threshold": int(_INACTIVE_S * SECOND),
            "mem_storage": True,
            "num_replicas": 1,
        }
        if self._subjects:
            config["filter_subjects"] = self._subjects
        return {"stream_name": self._stream, "config": config}

    def _begin_anew(self) -> None:
        self._inbox.put_nowait(None)

    async def _drain(self) -> None:
        """Handle messages until the consumer is to be made anew."""
        while True:
            message = await self._next()
            if message is None or not await self._take(message):
                return

    async def _next(self) -> Msg | None:
        """Return the next message, or None after a reconnect or a silence longer than heartbeats allow."""
        if not self._inbox.empty():
            return self._inbox.get_nowait()
        try:
            async with asyncio.timeout(SILENCE_S):
                return await self._inbox.get()
        except TimeoutError:
            if self._bus.connected:
                log.warning("consumer_silent", stream=self._stream)
            return None

    async def _take(self, message: Msg) -> bool:
        """Handle one message; false where messages are missing before it."""
        headers = message.headers or {}
        if "Status" in headers:
            return await self._control(message, headers)
        place = delivery_metadata(message.reply)
        if place.consumer_sequence != self._consumer_sequence + 1:
            log.warning("consumer_gap", stream=self._stream, at=place.stream_sequence)
            return False
        await self._loop.process(
            StreamMessage(
                message.subject, message.data, place.stream_sequence, headers, place.pending, place.at
            )
        )
        self._consumer_sequence = place.consumer_sequence
        self.position = place.stream_sequence
        self._moved.set()
        return True

    async def _control(self, message: Msg, headers: dict[str, str]) -> bool:
        """Answer flow control; a heartbeat tells whether a message was lost on the way."""
        stalled = headers.get("Nats-Consumer-Stalled")
        if reply := (message.reply or stalled):
            with suppress(nats.errors.Error):  # after the reconnect the consumer is made anew
                await self._bus.client.publish(reply, b"")
        delivered = headers.get("Nats-Last-Consumer")
        return delivered is None or int(delivered) <= self._consumer_sequence

    async def _unsubscribe(self) -> None:
        if self._subscription is not None and not self._bus.client.is_closed:
            with suppress(nats.errors.Error, OSError):
                await self._subscription.unsubscribe()
        self._subscription = None


async def read_to_end(bus: Bus, stream: str, loop: MessageLoop[Any, StreamMessage]) -> int:
    """Handle what a stream holds now, from its first message to its last, and return the last sequence.

    The end is asked of the stream's leader first, so that nothing acknowledged before the call is missed.
    """
    last = int((await stream_state(bus, stream))["last_seq"])
    end = await last_of(bus, stream, _ANY)  # the message under the last sequence may have been deleted
    if end is None:
        return last
    follower = Follower(bus, stream, loop)
    reaching = follower.reached(end.sequence)
    async with beside(follower.run(), "follow") as running, beside(reaching, "reach") as reached:
        await asyncio.wait([running, reached], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
            raise BusError(f"reading {stream} ended early")
    return last


@dataclass(frozen=True, slots=True)
class Place:
    """What the reply subject of a delivered message says of it."""

    deliveries: int
    stream_sequence: int
    consumer_sequence: int
    pending: int
    at: float
    """Wall time in seconds at which the broker stored it."""


def delivery_metadata(reply: str) -> Place:
    """Read `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<timestamp>.<pending>`.

    In the longer format a domain and an account hash come before the stream.
    """
    tokens = reply.split(".")
    at = 6 if len(tokens) > 9 else 4
    deliveries, stream_sequence, consumer_sequence, stored_at, pending = map(int, tokens[at : at + 5])
    return Place(deliveries, stream_sequence, consumer_sequence, pending, stored_at / SECOND)
