"""Samples of what swarms remember. See `samples`."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from libs.contracts import journal, rollups, thoughts
from libs.contracts.lives import Spent
from libs.contracts.thoughts import Source

USAGE = thoughts.Usage(prompt_tokens=10, completion_tokens=4, total_tokens=14)
SHARED = rollups.SharedSnapshot(
    persona_id="p-1", name="Ada", role="scout", summary="Calm.", hot_event_count=8, by_model=True
)
TERMS = rollups.RollUpTerms(account="root-thinker", number=77, window=29455384)

MEMORY: list[msgspec.Struct] = [
    SHARED,
    rollups.SummaryRequest(swarm_id="swarm-core", snapshots=[SHARED], within_ms=30000),
    rollups.SummaryReply(text="All is calm.", told=1, model="tiny", usage=USAGE, error=None, cpu_ms=900),
    TERMS,
    rollups.RollUpAsk(id="r-1", swarm_id="swarm-core", persona_id="p-2", chars=1400, first=(41, 2)),
    rollups.RollUpAnswer(refused="no credits", terms=TERMS, behind=(41, 3)),
    journal.RollUpCost("swarm-core", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), Spent(1, 14, 900)),
    rollups.RollUpRequest(
        id="r-1",
        swarm_id="swarm-core",
        persona_scope=["p-1", "p-2"],
        summary="All is calm.",
        cold_snapshot_count=3,
        hot_event_count=24,
        warm_fact_count=1,
        source=Source.FALLBACK,
        model=None,
        usage=None,
        error="no answer on perpetua.summaries within 30 s",
        spent=Spent(1, 14, 900),
        terms=TERMS,
        first=(41, 2),
        last=(44, 1),
    ),
    rollups.RollUpReply(repeated=True, behind=(41, 3)),
    thoughts.RollUpPayload(
        thinking="All is calm.",
        source=Source.MODEL,
        model="tiny",
        usage=USAGE,
        error=None,
        persona_scope=["p-1", "p-2"],
        cold_snapshot_count=3,
        hot_event_count=24,
        warm_fact_count=1,
    ),
]
