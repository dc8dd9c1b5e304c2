"""Samples of what makes personas autonomous: their inboxes and their credits. See `samples`."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from libs.contracts import accounts, inbox, journal, lives, spending, work

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
COST = accounts.Credits(420, 900)
ITEM_OUTCOME = inbox.ItemOutcome(id="i-1", source_id="room 1", outcome=inbox.Outcome.HANDLED)
ACCOUNT_WINDOW = accounts.AccountWindow(
    "root-thinker", 29455384, COST, [("p-1", 8, accounts.Credits(500, 800))], {"p-1": [5, 7], "p-2": [1, 1]}
)

PAUSE = journal.Pause("p-1", "root-thinker", accounts.Credit.TOKENS, AT, AT)
SPENT = lives.Spent(8, 420, 900)
IN_HOUR = lives.SpentInHour(490923, "swarm-core", "scout", SPENT)
BY_PERSONA = lives.SpentByPersona("p-1", SPENT)
ARRIVED = journal.ItemArrived("p-1", 17, 75, b"\x01" * 8, b"\x02" * 8)
STORED_MAIL = journal.StoredMail([(17, 75, 1)], b"\x01" * 8, b"\x02" * 8)
SETTLED = journal.ItemSettled(17, inbox.Outcome.HANDLED, "post-1")
HELD = inbox.HeldItem(
    id="i-1",
    domain="game",
    source_id="room 1",
    content="Is it calm, @Ada?",
    timestamp=AT,
    base_priority=0.75,
    effective_priority=1.25,
    waited_s=31.5,
    attempts=1,
    taken_up=False,
)
PAUSED_FOR = lives.PausedFor(account="root-thinker", credit=accounts.Credit.TOKENS, since=AT, resumes_at=AT)

SPEND_ROW = spending.SpendRow(key="scout", thoughts=8, tokens=420, cpu_ms=900)

LIVES: list[msgspec.Struct] = [
    PAUSE,
    SPENT,
    IN_HOUR,
    BY_PERSONA,
    SETTLED,
    PAUSED_FOR,
    journal.Effort("scout", 420, 900, True, False, b"\x00\x01", 0.75, [SETTLED], True, True, False, True),
    journal.StoredLife(
        [0.5, 1.0, 1767323045.5],
        SPENT,
        1,
        0.0,
        PAUSE,
        12.5,
        3600.25,
        False,
        [b"\x00\x01\x02\x03"],
        COST,
        29455384,
        COST,
        accounts.Settlement(8, 29455384, COST),
    ),
    ARRIVED,
    STORED_MAIL,
    work.TakenItem(
        17, "i-1", "game", "room 1", "Is it calm, @Ada?", AT, "post-1", 1, False, ["It is."], 0.75
    ),
    lives.PersonaLife(
        energy=0.5,
        attention=1.0,
        compute_budget=0.25,
        mood="active",
        inbox_load=1,
        response_count=2,
        last_activity_at=AT,
        next_look_at=AT,
        idle_secs=7,
        tokens=420,
        cpu_ms=900,
        paused=PAUSED_FOR,
        waiting_for=["p-2"],
    ),
    lives.InboxQuery(persona_id="p-1", limit=10),
    lives.InboxReply(items=[HELD], held=1),
    spending.Spend(thoughts=8, tokens=420, cpu_ms=900),
    SPEND_ROW,
    spending.SpendPage(
        by=spending.SpendBy.ROLE,
        swarm_id="swarm-core",
        since=AT,
        total=spending.Spend(thoughts=8, tokens=420, cpu_ms=900),
        rows=[SPEND_ROW],
        left_out=1,
    ),
    lives.SpendQuery(),
    lives.SpendReply(personas=[BY_PERSONA], hours=[IN_HOUR]),
]

ANSWER = inbox.PostAnswer(persona_id="p-1", name="Ada", response="It is.")
ASKED = inbox.Asked(boot="b-1", sequence=17)
DECISION = inbox.PostDecision(post_id="post-1", persona_id="p-1", sequence=17, answer=ANSWER)

SETTLEMENT = accounts.Settlement(7, 29455384, COST)
ASK = accounts.AccountAsk("root-thinker", "p-1", 8, accounts.Credits(500, 800), SETTLEMENT)
SHORT = accounts.AccountShort("root-thinker", accounts.Credit.TOKENS, 20000, 19800, 500)

AUTONOMY: list[msgspec.Struct] = [
    SETTLEMENT,
    ASK,
    SHORT,
    accounts.AccountsRequest(asks=[ASK]),
    accounts.AccountsReply(window=29455384, shorts=[None, SHORT]),
    ANSWER,
    inbox.SwarmSendRequest(content="Is it calm?", answers_most=3),
    inbox.Accepted(item_id="i-1", persona_id="p-1"),
    inbox.SwarmAccepted(post_id="post-1", swarm_id="swarm-core", personas=2),
    ASKED,
    DECISION,
    inbox.Post(
        id="post-1",
        answers_most=2,
        granted=["p-1"],
        answers=[ANSWER],
        asked={"p-1": ASKED},
        wanted=True,
    ),
    inbox.SendRequest(
        content="Is it calm, @Ada?",
        domain="game",
        source_id="room 1",
        priority=0.75,
        mentions=["Ada"],
        timestamp=AT,
        id="i-1",
        once=True,
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
    lives.DependencyTimedOutPayload(dependency="p-2", reason="silent"),
]
