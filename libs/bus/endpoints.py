"""Requests and notes over core NATS, handled side by side up to a limit.

An answer goes to an inbox and nowhere else: whoever asks names the subject, and would otherwise have this
process publish where it may not itself.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar

import msgspec
import nats.errors
import nats.micro
import structlog
from nats.aio.msg import Msg
from nats.micro.request import Request as MicroRequest
from nats.micro.service import EndpointConfig, GroupConfig, ServiceConfig

from libs.bus.connection import ERROR_CODE, ERROR_TEXT, Bus
from libs.bus.errors import TooLarge
from libs.bus.loop import Dead, Done, MessageLoop, Outcome, Refused, RetryLater
from libs.bus.telemetry import Telemetry
from libs.concurrency.tasks import Tasks
from libs.contracts.refusals import LimitReached, RefusalBody
from libs.contracts.traces import TRACEPARENT, is_traceparent
from libs.tracing.spans import served

log = structlog.get_logger("bus")

M = TypeVar("M")

_CONCURRENT = 256
_INBOX = re.compile(r"_INBOX[A-Za-z0-9_-]*(?:\.[^.*>\s]+)+")


Respond = Callable[[bytes, dict[str, str] | None], Awaitable[None]]
Written = Callable[[int, str], bytes]


def as_refusal(status: int, detail: str) -> bytes:
    """Return the body of an answer that refuses, as `Bus.ask` reads it."""
    return msgspec.json.encode(RefusalBody(status, detail))


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What may wait for a gate; what comes beyond it is dropped, and told as `slow_consumer`."""

    messages: int = 512 * 1024
    payload_bytes: int = 128 * 1024 * 1024


class Request:
    """A message that may want an answer. A note has nobody to `respond` to."""

    def __init__(
        self, subject: str, data: bytes, respond: Respond | None, written: Written = as_refusal
    ) -> None:
        self.subject = subject
        self.data = data
        self._respond = respond
        self._written = written

    async def settle(self, outcome: Outcome) -> None:
        """Answer the request, unless it was a note or its handler has nothing to say.

        An answer that is too large is refused instead, whatever it says: asked again it would be no smaller.
        Who asks over a connection that is lost asks again, so an answer for which nothing keeps room is lost.
        """
        if self._respond is None:
            return
        try:
            await self._answer_or_refuse(outcome, self._respond)
        except nats.errors.Error as error:
            log.warning("answer_lost", subject=self.subject, error=str(error))

    async def _answer_or_refuse(self, outcome: Outcome, respond: Respond) -> None:
        try:
            await self._answer(outcome, respond)
        except TooLarge as error:
            log.warning("answer_too_large", subject=self.subject, error=str(error))
            await self._answer(Refused(LimitReached.message("answer", error.description)), respond)

    async def _answer(self, outcome: Outcome, respond: Respond) -> None:
        match outcome:
            case Done(reply):
                if reply is not None:
                    await respond(reply, None)
            case Refused(refusal):
                await self._refuse(refusal.status, refusal.detail, respond)
            case RetryLater(_, reason):
                await self._refuse(503, reason, respond)
            case Dead(reason):
                await self._refuse(400, reason, respond)

    async def _refuse(self, status: int, detail: str, respond: Respond) -> None:
        await respond(self._written(status, detail), {ERROR_CODE: str(status), ERROR_TEXT: detail})


RequestLoop = MessageLoop[M, Request]
Handler = Callable[[M, Request], Awaitable[bytes | None]]


class Gate:
    """Lets so many deliveries be processed side by side and owns their tasks.

    Closing it waits for what was admitted. A fatal error in one of them ends whoever holds the gate open.
    """

    def __init__(self, limit: int = _CONCURRENT) -> None:
        self.admitted = 0
        """How many deliveries are being processed."""

        self._tasks = Tasks()
        self._room = asyncio.Semaphore(limit)
        self._idle = asyncio.Event()

    async def __aenter__(self) -> Gate:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.__aexit__(kind, error, trace)

    @property
    def full(self) -> bool:
        """Whether what comes now has to wait for room."""
        return self._room.locked()

    async def admit(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin `work` once there is room."""
        await self._room.acquire()
        self.admitted += 1
        self._tasks.create_task(self._run(work), name="handle")

    async def idle(self, patience: float) -> bool:
        """Whether, within so many seconds, nothing is being processed any more."""
        try:
            async with asyncio.timeout(patience):
                while self.admitted:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self.admitted -= 1
            self._idle.set()
            self._room.release()


@asynccontextmanager
async def listening(
    bus: Bus,
    subject: str,
    loop: MessageLoop[M, Request],
    gate: Gate,
    *,
    queue: str = "",
    written: Written = as_refusal,
    waiting: Waiting = Waiting(),  # noqa: B008 - frozen
) -> AsyncIterator[None]:
    """Process what comes on a subject while the context is open; `*` stands for any one token.

    `written` makes the bodies of answers that refuse.
    """

    async def receive(message: Msg) -> None:
        if was_sent_to(subject, message.subject):
            work = loop.process(_request(bus, message, written))
            await gate.admit(_traced(bus, loop.name, message.headers, work))

    async with bus.subscribed(
        subject,
        receive,
        queue=queue,
        pending_msgs_limit=waiting.messages,
        pending_bytes_limit=waiting.payload_bytes,
    ):
        yield


@asynccontextmanager
async def micro_service(
    bus: Bus,
    name: str,
    version: str,
    description: str,
    group: str,
    endpoints: dict[str, tuple[type, Handler[Any]]],
    telemetry: Telemetry,
    gate: Gate,
) -> AsyncIterator[None]:
    """Offer endpoints `<group>.<name>` as a NATS micro service, which `nats micro list` shows."""
    service = await nats.micro.add_service(
        bus.client, ServiceConfig(name=name, version=version, description=description)
    )
    under = service.add_group(GroupConfig(name=group))
    try:
        for endpoint, (message_type, handle) in endpoints.items():
            decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(message_type)
            loop: RequestLoop[Any] = MessageLoop(f"{group}.{endpoint}", decoder.decode, handle, telemetry)
            handler = bus.guarded(_receiver(bus, f"{group}.{endpoint}", loop, gate), endpoint)
            await under.add_endpoint(EndpointConfig(name=endpoint, handler=handler))
        yield
    finally:
        if not bus.client.is_closed:
            await service.stop()


def _receiver(
    bus: Bus, subject: str, loop: RequestLoop[Any], gate: Gate
) -> Callable[[MicroRequest], Awaitable[None]]:
    async def receive(request: MicroRequest) -> None:
        if was_sent_to(subject, request.subject):
            respond = request.respond if is_inbox(request._msg.reply, subject) else None
            work = loop.process(Request(request.subject, request.data, respond))
            await gate.admit(_traced(bus, loop.name, request.headers, work))

    return receive


def _traced(
    bus: Bus, name: str, headers: Mapping[str, str] | None, work: Coroutine[Any, Any, None]
) -> Coroutine[Any, Any, None]:
    """Return the handling of a message, in the trace of whoever sent it, where it names one."""
    if bus.tracer is None or not headers:
        return work
    parent = headers.get(TRACEPARENT)
    return work if parent is None or not is_traceparent(parent) else served(bus.tracer, name, parent, work)


def was_sent_to(subject: str, came_as: str) -> bool:
    """Whether a message that a subscription got was published on its subject by somebody who may.

    A push consumer delivers stored messages wherever its maker says, whatever that user may publish; but they
    keep the subject under which they are stored. So nobody may listen to a subject that a stream stores, with
    wildcards or without.
    """
    if came_as == subject or ("*" in subject and _fits(subject, came_as)):
        return True
    log.warning("misdelivered", subject=came_as, to=subject)
    return False


def _fits(pattern: str, subject: str) -> bool:
    wanted, given = pattern.split("."), subject.split(".")
    return len(wanted) == len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=True))


def is_inbox(reply: str, subject: str) -> bool:
    """Whether an answer may go to a reply subject; one that is there, and no inbox, is logged."""
    if not reply or _INBOX.fullmatch(reply):
        return bool(reply)
    log.warning("answer_not_sent", to=reply, asked=subject)
    return False


def _request(bus: Bus, message: Msg, written: Written) -> Request:
    async def respond(data: bytes, headers: dict[str, str] | None) -> None:
        await bus.client.publish(message.reply, data, headers=headers)

    answers = is_inbox(message.reply, message.subject)
    return Request(message.subject, message.data, respond if answers else None, written)
