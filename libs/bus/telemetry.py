"""The hook through which the bus tells what happens; it is fed frozen details and knows no metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import nats.errors


@dataclass(frozen=True, slots=True)
class MessageHandled:
    """One message has been settled."""

    loop: str
    outcome: str
    """`done`, `refused`, `retry` or `dead`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class BusFault:
    """The client library reports a fault that no caller sees."""

    kind: str
    """`slow_consumer` (messages were dropped), `denied` (a permission is missing) or `connection`."""

    subject: str
    text: str

    @classmethod
    def of(cls, error: Exception) -> BusFault:
        """Return the fault that an error of the client library stands for."""
        text = str(error) or type(error).__name__
        if isinstance(error, nats.errors.SlowConsumerError):
            return cls("slow_consumer", error.subject, text)
        if "permissions" in text.lower():
            return cls("denied", "", text)
        return cls("connection", "", text)


class Telemetry(Protocol):
    """Receives the details."""

    def handled(self, details: MessageHandled) -> None:
        """Note a settled message."""

    def fault(self, details: BusFault) -> None:
        """Note a fault."""


class NoTelemetry:
    """Receives the details and forgets them."""

    def handled(self, details: MessageHandled) -> None:
        """Note nothing."""

    def fault(self, details: BusFault) -> None:
        """Note nothing."""
