"""What came of asking a model, as every backend says it."""

from __future__ import annotations

from msgspec import Struct, structs

from libs.contracts.thoughts import TOKENS_MOST, Usage

EMPTY_COMPLETION = "empty completion"
WITHDRAWN = "withdrawn"


class Answer(Struct, frozen=True, kw_only=True):
    """What a backend made of a prompt, or why it made nothing (`text` null)."""

    text: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    latency_ms: int = 0
    error: str | None = None
    token_ids: list[int] | None = None
    """What a model in this process generated, tokens that are no text included; null elsewhere."""

    asked: bool = True
    """False: no model was asked, since it is known and said that none can answer now."""

    cpu_ms: int | None = None
    """Milliseconds of thinking that it cost, where that is not its latency: a batch is its rows' together."""

    outage: bool = False
    """It failed by what the prompt has no part in: nobody could be reached, or nobody let in."""

    @property
    def by_model(self) -> bool:
        """Whether there is a text that can be the thought."""
        return self.text is not None and bool(self.text.strip())

    @property
    def failure(self) -> str | None:
        """Why a model that was asked gave no such text; None where it did, or where none was asked."""
        if self.text is None:
            return self.error
        return None if self.text.strip() else EMPTY_COMPLETION

    @property
    def blameless(self) -> bool:
        """Whether there is no text for a reason that says nothing of the prompt: asking again may help."""
        if self.by_model:
            return False
        return not self.asked or self.outage or self.failure in (None, WITHDRAWN)

    @property
    def thinking_ms(self) -> int:
        """Milliseconds of thinking that it cost."""
        return self.latency_ms if self.cpu_ms is None else self.cpu_ms


def failed(error: str | None, latency_ms: int = 0) -> Answer:
    """Return the answer of a thought that has no text; it becomes the declared fallback."""
    return Answer(error=error, latency_ms=latency_ms)


def together(first: Answer, second: Answer) -> Answer:
    """Return the second answer of a model that was asked twice, at the cost of both."""
    return structs.replace(
        second,
        usage=_sum(first.usage, second.usage),
        latency_ms=first.latency_ms + second.latency_ms,
        cpu_ms=first.thinking_ms + second.thinking_ms,
        asked=True,
        outage=second.outage or not second.asked,
    )


def tokens_of(usage: Usage | None) -> int:
    """Return how many tokens an answer cost: the total, else what is known of it."""
    if usage is None:
        return 0
    if usage.total_tokens is not None:
        return usage.total_tokens
    return _bounded((usage.prompt_tokens or 0) + (usage.completion_tokens or 0))


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return one or other
    return Usage(
        prompt_tokens=_added(one.prompt_tokens, other.prompt_tokens),
        completion_tokens=_added(one.completion_tokens, other.completion_tokens),
        total_tokens=_bounded(tokens_of(one) + tokens_of(other)),
    )


def _added(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else _bounded((one or 0) + (other or 0))


def _bounded(tokens: int) -> int:
    return min(tokens, TOKENS_MOST)
