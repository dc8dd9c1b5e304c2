"""Events that a shard's owner makes: what came into inboxes and what was let go, who waits for credits."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

from libs.cognition.compose import make_event
from libs.cognition.text import trim
from libs.contracts.accounts import AccountShort, BudgetPausedPayload, BudgetResumedPayload
from libs.contracts.inbox import DropReason, InboxDroppedPayload, InboxItem, InboxReceivedPayload
from libs.contracts.journal import JournalEvent, Pause
from libs.contracts.lives import DependencyTimedOutPayload
from libs.contracts.thoughts import OwnEventType

EXCERPT_CHARS = 280
"""Of an item's content in the event that announces it."""


def received(swarm_id: str | None, item: InboxItem, base: int) -> JournalEvent:
    """Announce an item of a base priority in hundredths."""
    payload = InboxReceivedPayload(
        id=item.id,
        domain=item.domain,
        source_id=item.source_id,
        timestamp=item.timestamp,
        priority=base / 100,
        content_excerpt=trim(item.content, EXCERPT_CHARS),
        post_id=item.post_id,
    )
    return _event(OwnEventType.INBOX_RECEIVED, swarm_id, item.persona_id, payload)


def dropped(
    swarm_id: str | None, item: InboxItem, reason: DropReason, attempts: int, error: str | None = None
) -> JournalEvent:
    """Announce that an item leaves its inbox, or never came into one, without having been handled."""
    payload = InboxDroppedPayload(
        id=item.id,
        domain=item.domain,
        source_id=item.source_id,
        content=item.content,
        timestamp=item.timestamp,
        priority=item.priority,
        post_id=item.post_id,
        reason=reason,
        attempts=attempts,
        error=error,
    )
    return _event(OwnEventType.INBOX_DROPPED, swarm_id, item.persona_id, payload)


def paused(swarm_id: str | None, pause: Pause, short: AccountShort) -> JournalEvent:
    """Announce that a persona waits for credits."""
    words = "more than a whole minute has" if pause.resumes_at is None else "more than this minute has left"
    payload = BudgetPausedPayload(
        account=short.account,
        credit=short.credit,
        limit=short.limit,
        committed=short.committed,
        cost=short.cost,
        resumes_at=pause.resumes_at,
        reason=f"a thought is expected to cost {short.cost} {short.credit} of {short.account}, {words}",
    )
    return _event(OwnEventType.BUDGET_PAUSED, swarm_id, pause.persona_id, payload)


def resumed(swarm_id: str | None, pause: Pause) -> JournalEvent:
    """Announce that a persona thinks again."""
    payload = BudgetResumedPayload(account=pause.account, paused_at=pause.since)
    return _event(OwnEventType.BUDGET_RESUMED, swarm_id, pause.persona_id, payload)


def timed_out(swarm_id: str | None, persona_id: str, dependency: str, *, reaped: bool) -> JournalEvent:
    """Announce that a persona waits no longer for another one."""
    payload = DependencyTimedOutPayload(dependency=dependency, reason="reaped" if reaped else "silent")
    return _event(OwnEventType.DEPENDENCY_TIMED_OUT, swarm_id, persona_id, payload)


def _event(kind: OwnEventType, swarm_id: str | None, persona_id: str, payload: Struct) -> JournalEvent:
    made = make_event(kind, persona_id, swarm_id, datetime.now(UTC), payload)
    return JournalEvent(swarm_id, persona_id, kind, made)
