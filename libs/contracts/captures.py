"""Captured thoughts [H18]: what a model was asked and how, and what it said; and their replay."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from libs.contracts.thoughts import Usage
from libs.contracts.work import ContextLine


class CapturedPrompt(Struct, frozen=True, kw_only=True):
    """A prompt as the backend was given it; the model's own chat template shapes it from there [H14]."""

    system: str
    user: str
    prefill: str = ""
    """What the answer was made to begin with, by a backend that can."""


class CapturedSettings(Struct, frozen=True, kw_only=True):
    """What thought, and how it sampled."""

    backend: str
    """`ctranslate2` or `openai_compat`."""

    model: str
    """Name of the model, as events show it."""

    endpoint: str | None
    """The chat completions URL, without credentials; null for a model in the process."""

    model_path: str | None
    tokenizer_path: str | None
    device: str | None
    compute_type: str | None
    temperature: float
    top_p: float | None
    max_tokens: int
    repeat_penalty: float
    repeat_last_n: int
    seed: int
    seed_given: bool
    window: int
    timeout_ms: int
    device_index: int | None = None
    """Which GPU. Null for an endpoint, as are the two that follow, and where an older version captured."""

    length_step: int | None = None
    static_prompt: bool | None = None
    not_honoured: list[str] | None = None
    """Which of these what thinks cannot honour; null where an older version captured."""

    weights: str | None = None
    """SHA-256 of a pulled model's weights; null for others, and where an older version captured."""

    def unknown(self) -> list[str]:
        """Return what an older version, which captured this, did not keep."""
        of_a_model = ("device_index", "length_step", "static_prompt") if self.endpoint is None else ()
        return [name for name in (*of_a_model, "not_honoured") if getattr(self, name) is None]


class CapturedAnswer(Struct, frozen=True, kw_only=True):
    """What came of a prompt; `text` is null where nothing came, and `error` says why."""

    text: str | None
    model: str | None
    finish_reason: str | None
    usage: Usage | None
    latency_ms: int
    error: str | None
    token_ids: list[int] | None = None
    """What a model in a thinker's process generated, tokens that are no text included; null elsewhere."""


class Capture(Struct, frozen=True, kw_only=True):
    """One thought, as it was thought. A thought that was thought twice, after a crash, has its last form."""

    persona_id: str
    swarm_id: str | None
    thought_count: int
    phase: str
    at: datetime
    thinker: str
    """The instance that thought it."""

    prompt: CapturedPrompt
    context: list[ContextLine]
    settings: CapturedSettings
    answer: CapturedAnswer


class Replayed(Struct, frozen=True, kw_only=True):
    """A captured prompt, answered again, perhaps by other means."""

    settings: CapturedSettings
    answer: CapturedAnswer
