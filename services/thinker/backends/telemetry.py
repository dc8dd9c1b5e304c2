"""What a backend that forms batches tells of them, so that it knows no metric."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from msgspec import Struct


class BatchTaken(Struct, frozen=True):
    """A batch begins."""

    waits: list[float]
    """Seconds that each of its prompts has waited."""

    limit: int
    """Prompts that it might have had at most."""


class BatchDone(Struct, frozen=True):
    """A batch is through, whatever became of it."""

    seconds: float


class BatchFault(Struct, frozen=True):
    """The model refused a batch as a whole."""

    kind: str
    """`memory`, `error`, or `crash`: who forms batches has failed."""


class BatchTelemetry(Protocol):
    """Is told of batches."""

    def taken(self, details: BatchTaken) -> None:
        """A batch begins."""

    def done(self, details: BatchDone) -> None:
        """A batch is through."""

    def fault(self, details: BatchFault) -> None:
        """The model refused a batch as a whole."""


class NoTelemetry:
    """Tells nobody."""

    def taken(self, details: BatchTaken) -> None:
        """Nobody is told."""

    def done(self, details: BatchDone) -> None:
        """Nobody is told."""

    def fault(self, details: BatchFault) -> None:
        """Nobody is told."""


@runtime_checkable
class Batching(Protocol):
    """A backend that forms batches."""

    telemetry: BatchTelemetry
