"""Spans of the OpenTelemetry SDK. Imported only where an endpoint for traces is set."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import random

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace import Span as SdkSpan
from opentelemetry.trace import Tracer as SdkTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from libs.contracts.traces import TRACEPARENT, is_sampled, is_traceparent
from libs.settings.tracing import TracingSettings
from libs.tracing.export import BoundedExport, Dropped
from libs.tracing.spans import Attributes, Kind

_KINDS: dict[str, SpanKind] = {kind.name.lower(): kind for kind in SpanKind}
_PATH = "/v1/traces"
_extract = TraceContextTextMapPropagator().extract


class OtelSpan:
    """A span that is recorded."""

    __slots__ = ("_ended", "_span", "_tracer", "traceparent")

    def __init__(self, tracer: SdkTracer, span: SdkSpan) -> None:
        self._tracer = tracer
        self._span = span
        self._ended = False
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def child(
        self,
        name: str,
        kind: Kind = "internal",
        attributes: Attributes | None = None,
        begun: int | None = None,
    ) -> OtelSpan:
        """Begin a part of it."""
        span = self._tracer.start_span(
            name,
            set_span_in_context(self._span, Context()),
            kind=_KINDS[kind],
            attributes=attributes,
            start_time=begun,
        )
        return OtelSpan(self._tracer, span)

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        """Give it a better name."""
        self._span.update_name(name)

    def fail(self, why: str) -> None:
        """Mark it as failed."""
        self._span.set_status(Status(StatusCode.ERROR, why))

    def end(self, at: int | None = None) -> None:
        """End it, once."""
        if not self._ended:
            self._ended = True
            self._span.end(at)


class OtelTracer:
    """Begins spans; whether one is sampled is decided here, before it costs anything."""

    def __init__(self, settings: TracingSettings, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("perpetua")
        self._ratio = settings.ratio
        self._follows_parent = settings.follows_parent

    def begin(
        self,
        name: str,
        kind: Kind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> OtelSpan | None:
        """Begin a span; None where it is not sampled."""
        if parent is not None and not is_traceparent(parent):
            parent = None
        if parent is not None and self._follows_parent:
            if not is_sampled(parent):
                return None
        elif self._ratio < 1 and random() >= self._ratio:
            return None
        span = self._tracer.start_span(
            name,
            _context(parent),
            kind=_KINDS[kind],
            attributes=attributes,
            links=[Link(get_current_span(_context(link)).get_span_context()) for link in links] or None,
        )
        return OtelSpan(self._tracer, span)

    def close(self) -> None:
        """Export what has ended, and stop."""
        self._provider.shutdown()


def _context(parent: str | None) -> Context:
    return Context() if parent is None else _extract({TRACEPARENT: parent}, Context())


@contextmanager
def _refusing() -> Iterator[None]:
    """Make an error of what the SDK only logs; afterwards what goes wrong is said by BoundedExport."""
    sdk, complaints = logging.getLogger("opentelemetry"), _Complaints(logging.WARNING)
    sdk.propagate = False
    sdk.setLevel(logging.WARNING)
    sdk.addHandler(complaints)
    try:
        yield
    finally:
        sdk.removeHandler(complaints)
        sdk.setLevel(logging.CRITICAL)
    if complaints.texts:
        raise ValueError("; ".join(complaints.texts))


class _Complaints(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def open_tracer(
    settings: TracingSettings, service: str, instance: str, version: str, dropped: Dropped
) -> OtelTracer:
    """Return a tracer that exports in the background.

    `dropped` is told how many spans are lost, by any thread. Raises `ValueError` where the SDK or its
    exporter would not heed one of the variables that they read themselves.
    """
    assert settings.endpoint is not None
    named = {
        "service.namespace": "perpetua",
        "service.name": f"perpetua-{service}",
        "service.instance.id": instance,
        "service.version": version,
    }
    with _refusing():
        # What begins is decided by the tracer above, so the SDK is to record all of it
        provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create(named), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=settings.endpoint.rstrip("/") + _PATH)
    provider.add_span_processor(BoundedExport(exporter, settings.endpoint, dropped))
    return OtelTracer(settings, provider)
