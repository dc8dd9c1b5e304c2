"""Raw pulls from the work queue, overlapping so that the next fetch is under way while work is done."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg

from libs.bus.connection import Bus
from libs.bus.errors import BusError
from libs.bus.follow import delivery_metadata
from libs.bus.heartbeats import HEARTBEAT_S, SECOND, SILENCE_S
from libs.bus.loop import Dead, Done, MessageLoop, Outcome, Refused, RetryLater
from libs.concurrency.waiting import set_within
from libs.contracts import streams, subjects
from libs.contracts.work import DeadLetter

log = structlog.get_logger("queue")

M = TypeVar("M")

_EXPIRES_S = 15.0
_LATE_S = 1.0
"""By so many seconds the broker's word that a pull has ended may come late."""

_BURIED_AGAIN_AFTER_S = 30.0
_LETTER_BYTES = 1024 * 1024
_WAITS = "100"


class Work:
    """One delivery of a message of the work queue."""

    def __init__(self, bus: Bus, message: Msg) -> None:
        self.subject = message.subject
        self.data = message.data
        place = delivery_metadata(message.reply)
        self.sequence = place.stream_sequence
        self.deliveries = place.deliveries
        self._bus = bus
        self._reply = message.reply

    def taken_again(self, again: Work) -> None:
        """Settle by a later delivery of the same message: the broker has forgotten this one."""
        self._reply, self.deliveries = again._reply, again.deliveries

    async def in_progress(self) -> None:
        """Tell the broker that the work is being done, so that it is not given to another."""
        await self._say(b"+WPI")

    async def settle(self, outcome: Outcome) -> None:
        """Acknowledge, give back, or set aside as a dead letter."""
        match outcome:
            case Done():
                await self._say(b"+ACK")
            case RetryLater(after, _):
                delay = msgspec.json.encode({"delay": int(after * SECOND)})
                await self._say(b"-NAK " + delay)
            case Refused(refusal):
                await self._bury(refusal.detail)
            case Dead(reason):
                await self._bury(reason)

    async def _bury(self, reason: str) -> None:
        """Copy first: terminating a message of a work queue deletes it. What cannot be copied comes again."""
        try:
            await bury(self._bus, streams.THINK, self.subject, bytes(self.data), reason, self.deliveries)
        except BusError as error:
            log.warning("not_buried", subject=self.subject, sequence=self.sequence, error=str(error))
            return await self.settle(RetryLater(_BURIED_AGAIN_AFTER_S, "it could not be buried"))
        return await self._say(b"+TERM")

    async def _say(self, word: bytes) -> None:
        """Tell the broker. What is lost with the connection makes it deliver again, which is harmless."""
        with suppress(nats.errors.Error):
            await self._bus.client.publish(self._reply, word)


@dataclass(slots=True)
class _Pull:
    ends_at: float
    """When the broker has ended it and said so, by the loop's clock."""

    left: int


class _Pulls:
    """How many messages are asked for and have not come. What comes is counted to the oldest pull."""

    def __init__(self) -> None:
        self._pulls: deque[_Pull] = deque()
        self._heard_at = 0.0

    @property
    def asked(self) -> int:
        return sum(pull.left for pull in self._pulls)

    def ask(self, count: int, now: float) -> None:
        if not self._pulls:
            self._heard_at = now
        self._pulls.append(_Pull(now + _EXPIRES_S + _LATE_S, count))

    def heard(self, now: float) -> None:
        """Note that the broker still knows of a pull."""
        self._heard_at = now

    def came(self, count: int) -> None:
        """Note that so many messages have come, or will not."""
        while count and self._pulls:
            taken = min(count, self._pulls[0].left)
            self._pulls[0].left -= taken
            count -= taken
            if not self._pulls[0].left:
                self._pulls.popleft()

    def clear(self) -> None:
        self._pulls.clear()

    def forget_lost(self, now: float) -> None:
        """Forget what the broker has ended, or has lost: it would say every few seconds that a pull waits."""
        while self._pulls and self._pulls[0].ends_at <= now:
            self._pulls.popleft()
        if now - self._heard_at >= SILENCE_S:
            self._pulls.clear()

    def until_lost(self, now: float) -> float:
        """Return after how many seconds something may be to be forgotten."""
        if not self._pulls:
            return _EXPIRES_S
        return max(min(self._pulls[0].ends_at, self._heard_at + SILENCE_S) - now, 0.0)


class Puller:
    """Pulls from a consumer while `wanted` says that there is room, and feeds what comes to a receiver.

    A pull is renewed when half of what it asked for has come, when it expires, after a reconnect, and where
    the broker has lost it: whoever leads the consumer may be gone, and the connection to another broker last.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str,
        wanted: Callable[[], int],
        receive: Callable[[Work], Awaitable[None]],
    ) -> None:
        self._bus = bus
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._wanted = wanted
        self._receive = receive
        self._pulls = _Pulls()
        self._clock = asyncio.get_running_loop().time
        self._wake = asyncio.Event()
        self.bound = asyncio.Event()
        """Set once the first pull has been sent: what waits in the stream comes here from now on."""

    def room_changed(self) -> None:
        """Look again at how much is wanted."""
        self._wake.set()

    async def run(self) -> None:
        """Pull until cancelled; what was asked for and not delivered is forgotten by the broker then."""
        inbox = self._bus.client.new_inbox()
        unbounded = {"pending_msgs_limit": -1, "pending_bytes_limit": -1}
        async with self._bus.subscribed(inbox, self._on_message, **unbounded):
            with self._bus.on_reconnect(self._forget_pulls):
                await self._keep_asking(inbox)

    async def _keep_asking(self, inbox: str) -> None:
        while True:
            self._wake.clear()
            self._pulls.forget_lost(self._clock())
            missing = self._wanted() - self._pulls.asked
            if missing > 0 and missing * 2 >= self._wanted() and self._bus.connected:
                await self._ask(inbox, missing)
            await set_within(self._wake, self._pulls.until_lost(self._clock()))

    async def _ask(self, inbox: str, count: int) -> None:
        self._pulls.ask(count, self._clock())
        waits = {"expires": int(_EXPIRES_S * SECOND), "idle_heartbeat": int(HEARTBEAT_S * SECOND)}
        await self._bus.client.publish(
            self._subject, msgspec.json.encode({"batch": count} | waits), reply=inbox
        )
        self.bound.set()

    def _forget_pulls(self) -> None:
        self._pulls.clear()
        self._wake.set()

    async def _on_message(self, message: Msg) -> None:
        self._pulls.heard(self._clock())
        status = (message.headers or {}).get("Status")
        if status is not None:
            self._on_status(status, message)
            return
        self._pulls.came(1)
        self._wake.set()
        await self._receive(Work(self._bus, message))

    def _on_status(self, status: str, message: Msg) -> None:
        """A pull waits, or has ended: 404 and 408 say that nothing came, others that there is trouble."""
        if status == _WAITS:
            return
        pending = (message.headers or {}).get("Nats-Pending-Messages")
        if pending is not None:
            self._pulls.came(int(pending))
        else:
            self._pulls.clear()
        if status not in ("404", "408", "409"):
            log.warning("pull_ended", status=status, headers=dict(message.headers or {}))
        asyncio.get_running_loop().call_later(0 if status in ("404", "408") else 0.5, self._wake.set)


WorkLoop = MessageLoop[M, Work]


async def bury(bus: Bus, stream: str, subject: str, body: bytes, reason: str, deliveries: int) -> None:
    """Keep a copy of a stream's message that is given up, for people to read. Raises `BusError`.

    Of a body that no letter has room for the beginning is kept.
    """
    cut = len(body) > _LETTER_BYTES
    if cut:
        reason = f"{reason} ({len(body)} bytes, of which the first {_LETTER_BYTES} are here)"
        body = body[:_LETTER_BYTES]
    letter = DeadLetter(
        subject=subject, reason=reason, deliveries=deliveries, at=datetime.now(UTC), body=body, cut=cut
    )
    await bus.publish(subjects.dead_letter(stream), msgspec.json.encode(letter))


async def last_delivered(bus: Bus, stream: str, consumer: str) -> int:
    """Return the last place of a stream that a consumer has given to anybody. Raises `BusError`."""
    info = await bus.api(f"CONSUMER.INFO.{stream}.{consumer}")
    return int(info["delivered"]["stream_seq"])


async def purge_message(bus: Bus, stream: str, sequence: int) -> bool:
    """Delete one message of a stream; false where it is gone already or nobody answers."""
    body: dict[str, Any] = {"seq": sequence, "no_erase": True}
    try:
        await bus.api(f"STREAM.MSG.DELETE.{stream}", body)
    except BusError:
        return False
    return True
