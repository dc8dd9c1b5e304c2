"""What a thinker measures [H16]. Only thoughts by a model count towards inference."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from libs.cognition.compose import Answer
from libs.runtime.metrics import SECONDS


class ThinkerMetrics:
    """Metrics of thinking."""

    def __init__(self, registry: CollectorRegistry, in_hand: Callable[[], int]) -> None:
        self.inference = Histogram(
            "perpetua_inference_seconds",
            "Time of a model's answer, waiting for a batch included.",
            buckets=SECONDS,
            registry=registry,
        )
        self.settle = Histogram(
            "perpetua_settle_seconds",
            "From an answer to its thought in the journal.",
            buckets=SECONDS,
            registry=registry,
        )
        self._thoughts = Counter(
            "perpetua_thoughts_total", "Thoughts, by source.", ["source"], registry=registry
        )
        self._failures = Counter(
            "perpetua_thought_failures_total", "Thoughts without an answer of the model.", registry=registry
        )
        self._tokens = Counter(
            "perpetua_tokens_total", "Tokens as backends report them.", ["kind"], registry=registry
        )
        Gauge("perpetua_thoughts_in_hand", "Thoughts taken from the queue.", registry=registry).set_function(
            in_hand
        )

    def answered(self, answer: Answer, seconds: float) -> None:
        """Count an answer."""
        self._thoughts.labels("model" if answer.by_model else "fallback").inc()
        if answer.by_model:
            self.inference.observe(seconds)
        elif answer.failure is not None:
            self._failures.inc()
        if answer.usage is not None:
            self._tokens.labels("prompt").inc(answer.usage.prompt_tokens or 0)
            self._tokens.labels("completion").inc(answer.usage.completion_tokens or 0)
