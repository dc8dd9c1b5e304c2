"""Samples of what makes personas autonomous: their inboxes and their credits. See `samples`."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from libs.contracts import accounts, inbox

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
COST = accounts.Credits(420, 900)
ITEM_OUTCOME = inbox.ItemOutcome(id="i-1", source_id="room 1", outcome=inbox.Outcome.HANDLED)
ACCOUNT_WINDOW = accounts.AccountWindow(
    "root-thinker", 29455384, COST, [("p-1", 8, accounts.Credits(500, 800))], {"p-1": [5, 7], "p-2": [1, 1]}
)

AUTONOMY: list[msgspec.Struct] = [
    inbox.SendRequest(
        content="Is it calm, @Ada?",
        domain="game",
        source_id="room 1",
        priority=0.75,
        mentions=["Ada"],
        timestamp=AT,
    ),
    inbox.InboxItem(
        id="i-1",
        persona_id="p-1",
        content="Is it calm, @Ada?",
        domain="game",
        source_id="room 1",
        timestamp=AT,
        priority=0.75,
        mentions=["Ada"],
        post_id="post-1",
        answers_most=3,
    ),
    inbox.HeldItem(
        id="i-1",
        domain="chat",
        source_id="room 1",
        content="Is it calm?",
        timestamp=AT,
        base_priority=0.75,
        effective_priority=1.25,
        waited_s=45.5,
        attempts=1,
        taken_up=True,
    ),
    inbox.InboxReceivedPayload(
        id="i-1",
        domain="chat",
        source_id="room 1",
        timestamp=AT,
        priority=0.6,
        content_excerpt="Is it calm?",
        post_id=None,
    ),
    ITEM_OUTCOME,
    inbox.InboxHandledPayload(
        thought_count=8, items=[ITEM_OUTCOME], will_respond=True, response="Calm.", error=None
    ),
    inbox.InboxDroppedPayload(
        id="i-2",
        domain="chat",
        source_id="",
        content="Is it calm?",
        timestamp=AT,
        priority=None,
        post_id="post-1",
        reason=inbox.DropReason.FAILED,
        attempts=3,
        error="no decision: response: is missing",
    ),
    COST,
    accounts.CreditChange(12, accounts.CreditEvent.SETTLED, "root-thinker", "p-1", 7, 29455384, COST),
    ACCOUNT_WINDOW,
    accounts.AccountsCheckpoint(number=12, windows=[ACCOUNT_WINDOW]),
    accounts.BudgetPausedPayload(
        account="root-thinker",
        credit=accounts.Credit.TOKENS,
        limit=20000,
        committed=19800,
        cost=420,
        resumes_at=AT,
        reason="the thought needs 420 tokens",
    ),
    accounts.BudgetResumedPayload(account="root-thinker", paused_at=AT),
]
