"""Publishing what is traced: a span for each trace of a record, which its events then name."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from libs.contracts import streams
from libs.tracing.spans import Span, Tracer
from services.compressor.folding import Publication


def begin_publishing(
    tracer: Tracer, wanted: Sequence[Publication]
) -> tuple[list[Publication], dict[str, Span]]:
    """Return publications that name the spans begun for them, and those spans by what they go on from."""
    spans: dict[str, Span] = {}
    named: list[Publication] = []
    for one in wanted:
        if one.stream != streams.EVENTS or one.traceparent is None:
            named.append(one)
            continue
        span = spans.get(one.traceparent) or tracer.begin(
            "publish", "producer", one.traceparent, attributes=_about(one)
        )
        if span is not None:
            spans[one.traceparent] = span
            one = structs.replace(one, traceparent=span.traceparent)
        named.append(one)
    return named, spans


def _about(one: Publication) -> dict[str, str | int]:
    return {
        "messaging.system": "nats",
        "messaging.operation.type": "send",
        "messaging.destination.name": one.subject.replace("perpetua.in.", "perpetua.", 1),
        "perpetua.journal.sequence": one.place[0],
    }
