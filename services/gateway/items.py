"""What is sent, as the INBOX stream keeps it. Pure [A1]."""

from __future__ import annotations

from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

from msgspec import structs

from libs.contracts.inbox import InboxItem, SendRequest, SwarmSendRequest


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
    )


def copy_of_post(request: SwarmSendRequest, persona_id: str, post_id: str, now: datetime) -> InboxItem:
    """Return one persona's copy of a swarm-wide post; its id is the same however often it is made."""
    item_id = str(uuid5(NAMESPACE_URL, f"{post_id}/{persona_id}"))
    copy = item(request, persona_id, item_id, now)
    return structs.replace(copy, post_id=post_id, answers_most=request.answers_most)
