"""From a thought's answer to its events, in final bytes [3.6–3.11, 3.15], and to what it cost."""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import UNSET, Struct, structs

from libs.cognition.answer import EMPTY_COMPLETION, WITHDRAWN, Answer, failed, tokens_of
from libs.cognition.events import make_event, new_id
from libs.cognition.handling import Handling, handle, settled
from libs.cognition.novelty import novelty, signature
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
from libs.cognition.told import NOTHING, Told
from libs.contracts.journal import Effort, ItemSettled, ThoughtEntry
from libs.contracts.limits import NOVELTY_THRESHOLD
from libs.contracts.thoughts import (
    CheckResultPayload,
    EventType,
    PersonaRef,
    Phase,
    ProposalCreatedPayload,
    Source,
    ThoughtPayload,
)
from libs.contracts.work import WorkItem

__all__ = ["EMPTY_COMPLETION", "WITHDRAWN", "Answer", "compose", "failed", "make_event", "new_id"]

_NO_ITEMS: list[ItemSettled] = []


def compose(
    item: WorkItem,
    run: int,
    answer: Answer,
    now: datetime,
    told: Told | None = None,
    novelty_threshold: float = NOVELTY_THRESHOLD,
) -> ThoughtEntry:
    """Return the thought with all its events. A missing or blank text gives the declared fallback [3.11].

    `told` is what the model's prompt was made of; without it all items of the thought's inbox were in it.
    A thought by a model repeats where it is of less novelty than `novelty_threshold`.
    """
    handling = handle(item, answer, told) if item.inbox else None
    payload = _payload(item, answer, told, handling, novelty_threshold)
    events = [_event(item, event_of(payload.phase), now, payload)]
    if payload.phase is Phase.TEST:
        events.append(_event(item, EventType.CHECK_RESULT, now, _check_result(payload)))
    if makes_proposal(item.thought_count):
        events.append(_event(item, EventType.PROPOSAL_CREATED, now, _proposal_created(payload)))
    effort = None
    if handling is not None:
        items, more = settled(item, handling, now, sum([len(event) for _, event in events]))
        events += more
        effort = _effort(item, answer, payload, handling, items)
    elif (
        payload.error is not None
        or payload.source is Source.MODEL
        or (item.shares and payload.phase is Phase.COMPRESS)
    ):
        effort = _effort(item, answer, payload)
    return ThoughtEntry(item.persona_id, item.thought_count, run, item.swarm_id, item.tick_at, events, effort)


def _fallback_text(item: WorkItem, phase: Phase) -> str:
    """Return the deterministic text of a thought without a model."""
    return (
        f"phase={phase} persona={item.persona_id} role={item.role} "
        f"context_events={item.context_events} thought_count={item.thought_count} synthesized_fallback=1"
    )


def _payload(
    item: WorkItem, answer: Answer, told: Told | None, handling: Handling | None, threshold: float
) -> ThoughtPayload:
    phase, by_model = phase_of(item.thought_count), answer.by_model
    text, error, finish_reason = answer.text, answer.failure, answer.finish_reason
    if text is None or not by_model:
        text, finish_reason = _fallback_text(item, phase), None
    if handling is not None:
        text, error = handling.response or text, handling.no_decision or error
    payload = ThoughtPayload(
        phase=phase,
        thought_count=item.thought_count,
        thinking=trim(text, THINKING_CHARS),
        source=Source.MODEL if by_model else Source.FALLBACK,
        persona=PersonaRef(item.persona_id, item.name, item.role),
        context_event_count=item.context_events,
        model=answer.model if by_model else None,
        finish_reason=trim(finish_reason, FINISH_REASON_CHARS) if finish_reason else None,
        usage=answer.usage if by_model else None,
        latency_ms=answer.latency_ms,
        error=trim(error, ERROR_CHARS) if error is not None else None,
        echo=item.echo or UNSET,
    )
    if told is None and handling is None and not by_model:
        return payload
    return _completed(payload, item, told or NOTHING, handling, threshold)


def _completed(
    payload: ThoughtPayload, item: WorkItem, told: Told, handling: Handling | None, threshold: float
) -> ThoughtPayload:
    """Return a payload with what only thoughts have that a model, or somebody's message, had a part in."""
    has_text = payload.source is Source.MODEL and not (handling is not None and handling.is_silent)
    score = round(novelty(payload.thinking, item.recent, told.prompt), 2) if has_text else UNSET
    return structs.replace(
        payload,
        context_dropped=told.context_dropped or UNSET,
        charter_trimmed=told.charter_trimmed or UNSET,
        context_allocation=told.allocation or UNSET,
        inbox_item_ids=handling.ids if handling is not None else UNSET,
        novelty=score,
        repeats=(score is not UNSET and score < threshold) or UNSET,
    )


def _effort(
    item: WorkItem,
    answer: Answer,
    payload: ThoughtPayload,
    handling: Handling | None = None,
    items: list[ItemSettled] = _NO_ITEMS,
) -> Effort:
    score = payload.novelty
    return Effort(
        role=item.role,
        tokens=tokens_of(answer.usage),
        cpu_ms=answer.thinking_ms,
        by_model=payload.source is Source.MODEL,
        failed=answer.failure is not None,
        signature=signature(payload.thinking) if score is not UNSET else b"",
        novelty=score if score is not UNSET else None,
        items=items,
        responded=handling is not None and handling.response is not None,
        shares=item.shares,
        asked=answer.asked,
        repeats=payload.repeats is True,
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
