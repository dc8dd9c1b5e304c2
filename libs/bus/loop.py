"""The one receive, decode, handle, settle loop: every message of every service passes through it.

Each message ends in exactly one outcome. What an outcome does to the message is up to its delivery: a request
is answered, work is acknowledged, given back or set aside, and a record of an ordered stream must be done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

from libs.bus.errors import UNREADABLE
from libs.bus.telemetry import MessageHandled, Telemetry
from libs.contracts.refusals import Refusal

log = structlog.get_logger("loop")

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Done:
    """Handled. A request is answered with `reply`."""

    reply: bytes | None = None
    kind = "done"


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that cannot be granted, in the refusal's words."""

    refusal: Refusal
    kind = "refused"


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Not handled now; to be delivered again after so many seconds."""

    after: float
    reason: str
    kind = "retry"


@dataclass(frozen=True, slots=True)
class Dead:
    """Can never be handled; kept for people to read where it is durable."""

    reason: str
    kind = "dead"


Outcome = Done | Refused | RetryLater | Dead


class Delivery(Protocol):
    """A received message and the way it is settled."""

    @property
    def subject(self) -> str:
        """The subject it came on."""

    @property
    def data(self) -> bytes:
        """Its body."""

    async def settle(self, outcome: Outcome) -> None:
        """End the message. Called exactly once."""


D = TypeVar("D", bound=Delivery, contravariant=True)


class Postpone(Exception):
    """Raised by a handler that cannot handle a message now."""

    def __init__(self, reason: str, after: float = 1.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Fatal(Exception):
    """Raised by a handler when the process cannot go on; the loop lets it through."""


class MessageLoop(Generic[M, D]):
    """Decodes, handles and settles the messages of one kind."""

    def __init__(
        self,
        name: str,
        decode: Callable[[bytes], M],
        handle: Callable[[M, D], Awaitable[bytes | None]],
        telemetry: Telemetry,
    ) -> None:
        self.name = name
        self._decode = decode
        self._handle = handle
        self._telemetry = telemetry

    async def process(self, delivery: D) -> None:
        """Take one delivery to its end. Raises only `Fatal`, what settling raises, and cancellation."""
        began = asyncio.get_running_loop().time()
        outcome = await self._outcome(delivery)
        await delivery.settle(outcome)
        seconds = asyncio.get_running_loop().time() - began
        self._telemetry.handled(MessageHandled(self.name, outcome.kind, seconds))

    async def _outcome(self, delivery: D) -> Outcome:
        try:
            message = self._decode(delivery.data)
        except UNREADABLE as error:
            log.warning("undecodable", loop=self.name, subject=delivery.subject, error=str(error))
            return Dead(f"undecodable: {error}")
        try:
            return Done(await self._handle(message, delivery))
        except Refusal as refusal:
            return Refused(refusal)
        except Postpone as wait:
            return RetryLater(wait.after, wait.reason)
        except Fatal:
            raise
        except Exception as error:
            log.exception("handler_failed", loop=self.name, subject=delivery.subject)
            return RetryLater(1.0, f"{type(error).__name__}: {error}")
