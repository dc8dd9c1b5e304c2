"""What an endpoint backend tells of its requests and its circuit breaker, for metrics and for people."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from msgspec import Struct

from libs.contracts.presence import Circuit
from services.thinker.backends.breaker import Transition
from services.thinker.backends.faults import Outcome


class Requested(Struct, frozen=True):
    """A request has ended, or a thought has made none."""

    outcome: Outcome


class Watcher(Protocol):
    """Hears of an endpoint."""

    def requested(self, details: Requested) -> None:
        """Take note of a request."""

    def moved(self, details: Transition) -> None:
        """Take note of the circuit breaker."""


class Nobody:
    """Watches nothing."""

    def requested(self, details: Requested) -> None:
        """Take no note."""

    def moved(self, details: Transition) -> None:
        """Take no note."""


@runtime_checkable
class Watched(Protocol):
    """A backend that asks something which may fail as a whole."""

    watcher: Watcher

    def trouble(self) -> str | None:
        """Return why its thoughts are fallbacks for now, and the cure; None while all is well."""

    def circuit(self) -> Circuit:
        """Return whether it asks now."""
