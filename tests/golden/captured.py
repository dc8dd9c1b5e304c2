"""Samples of what captures hold. See `samples`."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from libs.contracts import captures, thoughts, work

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LINE = work.ContextLine("thought_generated", "2026-01-02T03:04:05Z", '{"phase":"observe"}')
CAPTURED_SETTINGS = captures.CapturedSettings(
    backend="openai_compat",
    model="qwen2.5:3b-instruct",
    endpoint="http://127.0.0.1:11434/v1/chat/completions",
    model_path=None,
    tokenizer_path=None,
    device=None,
    compute_type=None,
    temperature=0.2,
    top_p=None,
    max_tokens=256,
    repeat_penalty=1.1,
    repeat_last_n=64,
    seed=42,
    seed_given=False,
    window=0,
    timeout_ms=12000,
    not_honoured=["repeat_penalty", "repeat_last_n", "seed"],
)
CAPTURED_ANSWER = captures.CapturedAnswer(
    text="A calm signal.",
    model="qwen2.5:3b-instruct",
    finish_reason="stop",
    usage=thoughts.Usage(prompt_tokens=100, completion_tokens=20, total_tokens=120),
    latency_ms=900,
    error=None,
    token_ids=[32, 19300, 8286, 13],
)
CAPTURED_PROMPT = captures.CapturedPrompt(
    system="You are one persona.", user="phase: test", prefill='{"will_respond":'
)

CAPTURES: list[msgspec.Struct] = [
    CAPTURED_PROMPT,
    CAPTURED_SETTINGS,
    CAPTURED_ANSWER,
    captures.Capture(
        persona_id="p-1",
        swarm_id="swarm-core",
        thought_count=3,
        phase="test",
        at=AT,
        thinker="thinker-1",
        prompt=CAPTURED_PROMPT,
        context=[LINE],
        settings=CAPTURED_SETTINGS,
        answer=CAPTURED_ANSWER,
    ),
    captures.Replayed(settings=CAPTURED_SETTINGS, answer=CAPTURED_ANSWER),
]
