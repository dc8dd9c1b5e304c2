"""From a thought's answer to its events, in final bytes [3.6–3.11, 3.15]."""

from __future__ import annotations

import os
from datetime import datetime

import msgspec
from msgspec import UNSET, Struct

from libs.cognition.phases import event_of, makes_proposal, phase_of
from libs.cognition.text import (
    ERROR_CHARS,
    FINISH_REASON_CHARS,
    RATIONALE_CHARS,
    RATIONALE_EXCERPT_CHARS,
    RESULT_EXCERPT_CHARS,
    THINKING_CHARS,
    proposal_title,
    trim,
)
from libs.contracts.journal import ThoughtEntry
from libs.contracts.thoughts import (
    CheckResultPayload,
    Event,
    EventType,
    PersonaRef,
    Phase,
    ProposalCreatedPayload,
    Source,
    ThoughtPayload,
    Usage,
)
from libs.contracts.work import WorkItem

_encode = msgspec.json.Encoder().encode

EMPTY_COMPLETION = "empty completion"
WITHDRAWN = "withdrawn"


class Answer(Struct, frozen=True, kw_only=True):
    """What a backend made of a prompt, or why it made nothing (`text` null)."""

    text: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    latency_ms: int = 0
    error: str | None = None
    asked: bool = True
    """False: no model was asked, since it is known and said that none can answer now."""

    @property
    def by_model(self) -> bool:
        """Whether there is a text that can be the thought."""
        return self.text is not None and bool(self.text.strip())

    @property
    def failure(self) -> str | None:
        """Why a model that was asked gave no such text; None where it did, or where none was asked."""
        if self.by_model:
            return None
        return EMPTY_COMPLETION if self.text is not None else self.error


def failed(error: str | None, latency_ms: int = 0) -> Answer:
    """Return the answer of a thought that has no text; it becomes the declared fallback."""
    return Answer(error=error, latency_ms=latency_ms)


class Omitted(Struct, frozen=True, kw_only=True):
    """What of a persona the model was not told, because its window is too small [H11, H12]."""

    context: int = 0
    """Events of the context."""

    charter_chars: int = 0
    """Characters at the charter's end."""


_NOTHING = Omitted()


def compose(
    item: WorkItem, run: int, answer: Answer, now: datetime, omitted: Omitted = _NOTHING
) -> ThoughtEntry:
    """Return the thought with all its events. A missing or blank text gives the declared fallback [3.11]."""
    payload = _payload(item, answer, omitted)
    events = [_event(item, event_of(payload.phase), now, payload)]
    if payload.phase is Phase.TEST:
        events.append(_event(item, EventType.CHECK_RESULT, now, _check_result(payload)))
    if makes_proposal(item.thought_count):
        events.append(_event(item, EventType.PROPOSAL_CREATED, now, _proposal_created(payload)))
    return ThoughtEntry(item.persona_id, item.thought_count, run, item.swarm_id, item.tick_at, events)


def make_event(
    event_type: str, persona_id: str | None, swarm_id: str | None, now: datetime, payload: Struct
) -> msgspec.Raw:
    """Return an event's final JSON under a fresh id."""
    event = Event(
        id=new_id(),
        event_type=event_type,
        persona_id=persona_id,
        swarm_id=swarm_id,
        timestamp=now,
        payload=payload,
    )
    return msgspec.Raw(_encode(event))


class _Random:
    """Random bytes, fetched from the system for many ids at once."""

    def __init__(self) -> None:
        self._left: list[str] = []

    def digits(self) -> str:
        """Return 32 hexadecimal digits."""
        if not self._left:
            fetched = os.urandom(16 * _IDS_AT_ONCE).hex()
            self._left = [fetched[at : at + 32] for at in range(0, len(fetched), 32)]
        return self._left.pop()


_IDS_AT_ONCE = 256
_random = _Random()


def new_id() -> str:
    """Return a random UUID, version 4. `uuid.uuid4` takes eight times as long."""
    digits = _random.digits()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def fallback_text(item: WorkItem) -> str:
    """Return the deterministic text of a thought without a model."""
    return (
        f"phase={phase_of(item.thought_count)} persona={item.persona_id} role={item.role} "
        f"context_events={item.context_events} thought_count={item.thought_count} synthesized_fallback=1"
    )


def _payload(item: WorkItem, answer: Answer, omitted: Omitted) -> ThoughtPayload:
    by_model, error, finish_reason = answer.by_model, answer.failure, answer.finish_reason
    text = answer.text if answer.text is not None and by_model else fallback_text(item)
    return ThoughtPayload(
        phase=phase_of(item.thought_count),
        thought_count=item.thought_count,
        thinking=trim(text, THINKING_CHARS),
        source=Source.MODEL if by_model else Source.FALLBACK,
        persona=PersonaRef(item.persona_id, item.name, item.role),
        context_event_count=item.context_events,
        model=answer.model if by_model else None,
        finish_reason=trim(finish_reason, FINISH_REASON_CHARS) if finish_reason and by_model else None,
        usage=answer.usage if by_model else None,
        latency_ms=answer.latency_ms,
        error=trim(error, ERROR_CHARS) if error is not None else None,
        context_dropped=omitted.context or UNSET,
        charter_trimmed=omitted.charter_chars or UNSET,
    )


def _check_result(thought: ThoughtPayload) -> CheckResultPayload:
    return CheckResultPayload(
        phase=thought.phase,
        thought_count=thought.thought_count,
        result_excerpt=trim(thought.thinking, RESULT_EXCERPT_CHARS),
        source=thought.source,
        model=thought.model,
    )


def _proposal_created(thought: ThoughtPayload) -> ProposalCreatedPayload:
    rationale = trim(thought.thinking, RATIONALE_CHARS)
    return ProposalCreatedPayload(
        proposal_id=new_id(),
        title=proposal_title(thought.thinking, thought.thought_count),
        rationale_excerpt=trim(rationale, RATIONALE_EXCERPT_CHARS),
        source=thought.source,
        model=thought.model,
    )


def _event(item: WorkItem, event_type: EventType, now: datetime, payload: Struct) -> tuple[str, msgspec.Raw]:
    return event_type, make_event(event_type, item.persona_id, item.swarm_id, now, payload)
