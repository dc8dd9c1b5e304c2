"""What is sent, as the INBOX stream keeps it; pure, but for the trace that it goes on with [A1]."""

from __future__ import annotations

from datetime import datetime

from msgspec import structs

from libs.contracts.inbox import InboxItem, SendRequest, SwarmSendRequest, copy_id
from libs.tracing.spans import current_traceparent


def item(request: SendRequest, persona_id: str, item_id: str, now: datetime) -> InboxItem:
    """Return what one persona is sent."""
    return InboxItem(
        id=item_id,
        persona_id=persona_id,
        content=request.content,
        domain=request.domain,
        source_id=request.source_id,
        timestamp=request.timestamp if request.timestamp is not None else now,
        priority=request.priority,
        mentions=request.mentions,
        traceparent=current_traceparent(),
    )


def copy_of_post(request: SwarmSendRequest, persona_id: str, post_id: str, now: datetime) -> InboxItem:
    """Return one persona's copy of a swarm-wide post; its id is the same however often it is made."""
    copy = item(request, persona_id, copy_id(post_id, persona_id), now)
    return structs.replace(copy, post_id=post_id, answers_most=request.answers_most)
