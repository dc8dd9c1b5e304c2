"""Spans as services see them. Nothing here imports OpenTelemetry, which is loaded only where it is used.

A process without an endpoint for traces has no tracer, and whoever has no tracer makes no span. What is not
sampled has no span either: `Tracer.begin` returns None.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, Protocol

from libs.contracts.traces import TRACEPARENT

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool | Sequence[str]]


def thought_attributes(persona_id: str, swarm_id: str | None, thought_count: int) -> dict[str, str | int]:
    """Return what names a thought in every span of it."""
    about: dict[str, str | int] = {"perpetua.persona.id": persona_id, "perpetua.thought.count": thought_count}
    return about if swarm_id is None else about | {"perpetua.swarm.id": swarm_id}


class Span(Protocol):
    """Something that a process does. Times are wall times in nanoseconds; None: now."""

    traceparent: str
    """Its context, for whoever goes on from it."""

    def child(
        self,
        name: str,
        kind: Kind = "internal",
        attributes: Attributes | None = None,
        begun: int | None = None,
    ) -> Span:
        """Begin a part of it, at `begun`."""

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""

    def rename(self, name: str) -> None:
        """Give it a better name, once that is known."""

    def fail(self, why: str) -> None:
        """Mark it as failed."""

    def end(self, at: int | None = None) -> None:
        """End it at `at`. Done twice, the first counts; never done, it is not exported."""


class Tracer(Protocol):
    """Begins spans. Neither beginning nor ending one waits for anything, or raises."""

    def begin(
        self,
        name: str,
        kind: Kind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> Span | None:
        """Begin a span in the trace of `parent`, a traceparent, or in one of its own; None if not sampled.

        What is no traceparent counts as none.
        """

    def close(self) -> None:
        """Export what has ended, for as long as the collector takes, and stop. Blocks."""


_current: ContextVar[Span | None] = ContextVar("perpetua-span", default=None)


def current() -> Span | None:
    """Return the span that the running task works for."""
    return _current.get()


def current_traceparent() -> str | None:
    """Return the context of the span that the running task works for."""
    span = _current.get()
    return span.traceparent if span is not None else None


def trace_headers() -> dict[str, str] | None:
    """Return the headers that let a peer go on from the running task's span; None where there is none."""
    span = _current.get()
    return {TRACEPARENT: span.traceparent} if span is not None else None


@contextmanager
def inside(span: Span | None) -> Iterator[None]:
    """Have the running task, and those that it starts, work for a span while the context is open."""
    token = _current.set(span)
    try:
        yield
    finally:
        _current.reset(token)


async def served(tracer: Tracer, name: str, parent: str, work: Coroutine[Any, Any, None]) -> None:
    """Do what a message asks for in the trace of whoever sent it."""
    span = tracer.begin(name, "server", parent)
    if span is None:
        return await work
    try:
        with inside(span):
            return await work
    except Exception as error:
        span.fail(type(error).__name__)
        raise
    finally:
        span.end()
