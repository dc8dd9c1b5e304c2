"""Sending over NATS: `perpetua.inbox.<persona>` and `perpetua.inbox_swarm.<swarm>`, as the HTTP routes do it.

Gateways share the requests. Who may publish there may have the persona's or swarm's whole attention, and
nothing else: the subject is taken apart as strictly as a path, the body checked as a body, the answer goes to
an inbox only.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from libs.bus.connection import Bus
from libs.bus.endpoints import Gate, Request, Waiting, listening
from libs.bus.errors import BusError
from libs.bus.loop import MessageLoop
from libs.bus.telemetry import Telemetry
from libs.contracts import subjects
from libs.contracts.inbox import SendRequest, SwarmSendRequest
from libs.contracts.limits import Identifier
from libs.contracts.refusals import Invalid, RefusalBody, Unavailable, rebuilt
from libs.contracts.tokens import decode, encode
from services.gateway.bodies import read_body
from services.gateway.problems import ID_RULE, Problem, TooManyRequests
from services.gateway.rates import Rates
from services.gateway.sending import Sending

_QUEUE = "gateway"
_AT_ONCE = 64
_WAITING = Waiting(messages=4096, payload_bytes=16 * 1024 * 1024)
_CLIENT = "nats"
"""All who send over NATS count as one client: the broker does not tell them apart."""

Send = Callable[[str, Any], Awaitable[msgspec.Struct]]

_encode = msgspec.json.Encoder().encode


@asynccontextmanager
async def senders(bus: Bus, sending: Sending, rates: Rates, telemetry: Telemetry) -> AsyncIterator[None]:
    """Answer who sends over NATS while the context is open; what was begun by then is answered."""
    to_persona = _loop("inbox", "persona", SendRequest, sending.to_persona, rates, telemetry)
    to_swarm = _loop("inbox-swarm", "swarm", SwarmSendRequest, sending.to_swarm, rates, telemetry)
    bounds: dict[str, Any] = {"queue": _QUEUE, "written": as_problem, "waiting": _WAITING}
    async with (
        Gate(_AT_ONCE) as gate,
        listening(bus, subjects.SEND, to_persona, gate, **bounds),
        listening(bus, subjects.SEND_SWARM, to_swarm, gate, **bounds),
    ):
        yield


def _loop(
    name: str, whose: str, kind: type[msgspec.Struct], send: Send, rates: Rates, telemetry: Telemetry
) -> MessageLoop[bytes, Request]:
    async def handle(body: bytes, request: Request) -> bytes:
        if wait := rates.wait(_CLIENT):
            raise TooManyRequests(max(math.ceil(wait), 1))
        try:
            return _encode(await send(named(request.subject, whose), read_body(body, kind)))
        except BusError as error:
            raise Unavailable(f"the broker does not answer: {error}") from error
        except RecursionError:
            raise Invalid("the body is nested too deeply") from None

    return MessageLoop(name, bytes, handle, telemetry)


def named(subject: str, whose: str) -> str:
    """Return the id that the last token of a subject stands for. Raises `Invalid` where it is none's."""
    token = subject.rpartition(".")[2]
    try:
        identifier = msgspec.convert(decode(token), Identifier)
        if encode(identifier) == token:
            return identifier
    except (UnicodeDecodeError, msgspec.ValidationError):
        pass
    raise Invalid(
        f"the last token of the subject is not that of a {whose}: {ID_RULE}, every byte of its UTF-8 form "
        "but letters, digits, `-` and `_` written `=XX`"
    )


def as_problem(status: int, detail: str) -> bytes:
    """Return the body of an answer that refuses: a problem document."""
    title = (
        TooManyRequests.title
        if status == TooManyRequests.status
        else rebuilt(RefusalBody(status, detail)).title
    )
    return _encode(Problem(title=title, status=status, detail=detail))
