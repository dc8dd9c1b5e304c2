"""The trace of a thought as a thinker sees it: what it asks a model, how long that waits, how it settles.

Attributes are those of OpenTelemetry's conventions for generative AI, where those have one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from libs.cognition.answer import Answer
from libs.contracts.work import WorkItem
from libs.tracing.spans import Span, Tracer, current, thought_attributes
from services.thinker.backends.base import Backend
from services.thinker.backends.telemetry import Batching

Traced = dict[str, Span]
"""By persona, the spans of those thoughts that are traced."""


def begin_thoughts(tracer: Tracer | None, items: Sequence[WorkItem], traces: Mapping[str, str]) -> Traced:
    """Begin a span for each thought that is traced."""
    if tracer is None or not traces:
        return {}
    found: Traced = {}
    for item in items:
        parent = traces.get(item.persona_id)
        if parent is not None and (
            span := tracer.begin("think", "consumer", parent, attributes=_about(item))
        ):
            found[item.persona_id] = span
    return found


def begin_chat(backend: Backend) -> Span | None:
    """Begin the part of a traced thought in which a model is asked; None where the thought is not traced."""
    span = current()
    if span is None:
        return None
    about = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "ctranslate2" if isinstance(backend, Batching) else "openai",
    }
    if backend.model is not None:
        about["gen_ai.request.model"] = backend.model
    return span.child(f"chat {backend.model}" if backend.model else "chat", "client", about)


def end_chat(span: Span, answer: Answer) -> None:
    """End that part with what came of it. No text of prompt or answer is told."""
    about: dict[str, str | int | Sequence[str]] = {}
    if answer.model is not None:
        about["gen_ai.response.model"] = answer.model
    if answer.finish_reason is not None:
        about["gen_ai.response.finish_reasons"] = [answer.finish_reason]
    if answer.usage is not None and answer.usage.prompt_tokens is not None:
        about["gen_ai.usage.input_tokens"] = answer.usage.prompt_tokens
    if answer.usage is not None and answer.usage.completion_tokens is not None:
        about["gen_ai.usage.output_tokens"] = answer.usage.completion_tokens
    span.note(about)
    if (failure := answer.failure) is not None:
        span.fail(failure)
    span.end()


def _about(item: WorkItem) -> dict[str, str | int]:
    about = thought_attributes(item.persona_id, item.swarm_id, item.thought_count)
    return about | {"perpetua.inbox.items": len(item.inbox)}
