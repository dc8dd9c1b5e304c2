"""A swarm's memory as an event [A18]. Pure; a shard's owner journals what this returns."""

from __future__ import annotations

from datetime import datetime

from libs.cognition.events import make_event
from libs.cognition.text import ERROR_CHARS, SUMMARY_CHARS, trim
from libs.contracts.journal import JournalEvent
from libs.contracts.rollups import ROLLED_UP_MOST, RollUpRequest
from libs.contracts.thoughts import EventType, RollUpPayload


def roll_up_event(request: RollUpRequest, now: datetime) -> JournalEvent:
    """Return the event of a roll-up: a `snapshot_compressed` of the swarm, and of no persona."""
    payload = RollUpPayload(
        thinking=trim(request.summary, SUMMARY_CHARS),
        source=request.source,
        model=request.model,
        usage=request.usage,
        error=trim(request.error, ERROR_CHARS) if request.error is not None else None,
        persona_scope=request.persona_scope[:ROLLED_UP_MOST],
        cold_snapshot_count=request.cold_snapshot_count,
        hot_event_count=request.hot_event_count,
        warm_fact_count=request.warm_fact_count,
    )
    event = make_event(EventType.SNAPSHOT_COMPRESSED, None, request.swarm_id, now, payload)
    return JournalEvent(request.swarm_id, None, EventType.SNAPSHOT_COMPRESSED, event)
