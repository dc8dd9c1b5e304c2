"""The hook through which the bus tells what happens; it is fed frozen details and knows no metric."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import nats.errors

from libs.bus.client import UnreadableMessage

_DENIED = re.compile(r'permissions violation for (?:publish|subscription) to "([^"]*)"')


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
    """`slow_consumer` (messages were dropped), `unreadable` (one was left), `denied` (a permission is
    missing), `refused` (the broker does not know us) or `connection`."""

    subject: str
    """What it is about; of a denied one in small letters, as the client library tells it."""

    text: str

    @classmethod
    def of(cls, error: Exception) -> BusFault:
        """Return the fault that an error of the client library stands for."""
        text = str(error) or type(error).__name__
        if isinstance(error, nats.errors.SlowConsumerError):
            return cls("slow_consumer", error.subject, text)
        if isinstance(error, UnreadableMessage):
            return cls("unreadable", error.subject, text)
        if denied := _DENIED.search(text.lower()):
            return cls("denied", denied[1], text)
        if "authorization" in text.lower():
            return cls("refused", "", text)
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


class LastFault(NoTelemetry):
    """Remembers the last fault, for whoever gives up on the broker and has to say why."""

    def __init__(self) -> None:
        self.last: BusFault | None = None

    def fault(self, details: BusFault) -> None:
        """Remember a fault."""
        self.last = details

    def why(self, url: str) -> str:
        """Return why there is no connection, with what helps."""
        if self.last is not None and self.last.kind == "refused":
            return (
                f"the broker at {url} refuses us ({self.last.text}). Show it a key that it knows with "
                "PERPETUA_NATS_NKEY_FILE, or name the folder of its `perpetua up` with --data-dir"
            )
        said = f" ({self.last.text})" if self.last is not None else ""
        return f"no broker answers at {url}{said}. Is it running, and reachable from here?"
