"""What a thinker measures [H16]. Only thoughts by a model count towards inference."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from libs.cognition.compose import Answer
from libs.cognition.told import Told
from libs.contracts.inbox import Outcome
from libs.contracts.journal import ThoughtEntry
from libs.runtime.metrics import SECONDS, WeightedHistogram
from services.thinker.allocation import DROPPED, FLOOR, ORDER, SATISFIED
from services.thinker.backends.telemetry import BatchDone, BatchFault, BatchTaken

ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
"""Histogram bounds for prompts of a batch."""

RATIOS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
"""Histogram bounds for shares of a whole."""


class ThinkerMetrics:
    """Metrics of thinking."""

    def __init__(self, registry: CollectorRegistry, in_hand: Callable[[], int]) -> None:
        self.inference = WeightedHistogram(
            "perpetua_inference_seconds",
            "Time of a model's answer, waiting for a batch included.",
            buckets=SECONDS,
            registry=registry,
        )
        self.settle = WeightedHistogram(
            "perpetua_settle_seconds",
            "From an answer to its thought in the journal.",
            buckets=SECONDS,
            registry=registry,
        )
        thoughts = Counter("perpetua_thoughts_total", "Thoughts, by source.", ["source"], registry=registry)
        self._by_model, self._fallbacks = thoughts.labels("model"), thoughts.labels("fallback")
        self._failures = Counter(
            "perpetua_thought_failures_total",
            "Thoughts for which a model was asked that gave no answer.",
            registry=registry,
        )
        tokens = Counter(
            "perpetua_tokens_total", "Tokens as backends report them.", ["kind"], registry=registry
        )
        self._prompt_tokens, self._completion_tokens = tokens.labels("prompt"), tokens.labels("completion")
        self._context_dropped = Counter(
            "perpetua_context_dropped_total",
            "Events of contexts that a model's window had no room for.",
            registry=registry,
        )
        self._charters_trimmed = Counter(
            "perpetua_charters_trimmed_total",
            "Prompts with a charter that a model's window had no room for.",
            registry=registry,
        )
        self._batch_rows = Histogram(
            "perpetua_batch_rows", "Prompts of a batch.", buckets=ROWS, registry=registry
        )
        self._batch_fill = Histogram(
            "perpetua_batch_fill_ratio",
            "Prompts of a batch by the most it may have.",
            buckets=RATIOS,
            registry=registry,
        )
        self._batch_wait = WeightedHistogram(
            "perpetua_batch_wait_seconds",
            "From a prompt's coming to its batch.",
            buckets=SECONDS,
            registry=registry,
        )
        self._batch_inference = Histogram(
            "perpetua_batch_inference_seconds",
            "Time of a batch in the model.",
            buckets=SECONDS,
            registry=registry,
        )
        self._batch_faults = Counter(
            "perpetua_batch_faults_total",
            "Batches that the model refused and that were split, by kind.",
            ["kind"],
            registry=registry,
        )
        self._count_lives(registry)
        Gauge("perpetua_thoughts_in_hand", "Thoughts taken from the queue.", registry=registry).set_function(
            in_hand
        )

    def stages(self) -> dict[str, WeightedHistogram]:
        """Return the parts of a thought that are measured here [H16]."""
        return {"batch wait": self._batch_wait, "inference": self.inference, "publish": self.settle}

    def _count_lives(self, registry: CollectorRegistry) -> None:
        allocations = Counter(
            "perpetua_context_sources_total",
            "Sources of prompts with more than own events, by how much of each there was room for.",
            ["source", "outcome"],
            registry=registry,
        )
        self._allocations = {
            (source, allocation): allocations.labels(source, allocation)
            for source in ORDER
            for allocation in (SATISFIED, FLOOR, DROPPED)
        }
        taken_up = Counter(
            "perpetua_inbox_items_taken_up_total",
            "Inbox items that thoughts took up, by what came of it.",
            ["outcome"],
            registry=registry,
        )
        self._taken_up = {outcome: taken_up.labels(outcome.value) for outcome in Outcome}
        decisions = Counter(
            "perpetua_decisions_total",
            "Answers of models to messages: responses, silence, or no decision.",
            ["outcome"],
            registry=registry,
        )
        self._decisions = {word: decisions.labels(word) for word in ("response", "silence", "none")}
        self.asked_again = Counter(
            "perpetua_decisions_asked_again_total",
            "Answers to messages that were no decision, so that the model was asked once more.",
            registry=registry,
        )
        summaries = Counter(
            "perpetua_summaries_total",
            "Summaries of what swarms remember, by whether the model made one.",
            ["outcome"],
            registry=registry,
        )
        self._summaries = {True: summaries.labels("made"), False: summaries.labels("failed")}
        self._repeating = Counter(
            "perpetua_thoughts_repeating_total",
            "Thoughts by a model that repeat recent ones, or their prompt, nearly word for word.",
            registry=registry,
        )

    def answered(self, answer: Answer, seconds: float) -> None:
        """Count an answer."""
        (self._by_model if answer.by_model else self._fallbacks).inc()
        if answer.by_model:
            self.inference.observe(seconds)
        elif answer.failure is not None and answer.asked:
            self._failures.inc()
        self._tokens(answer)

    def _tokens(self, answer: Answer) -> None:
        if answer.usage is not None:
            self._prompt_tokens.inc(answer.usage.prompt_tokens or 0)
            self._completion_tokens.inc(answer.usage.completion_tokens or 0)

    def declared(self, thoughts: int) -> None:
        """Count thoughts for which nothing thinks."""
        self._fallbacks.inc(thoughts)

    def fitted(self, told: Told) -> None:
        """Count what a prompt had no room for."""
        if told.context_dropped:
            self._context_dropped.inc(told.context_dropped)
        if told.charter_trimmed:
            self._charters_trimmed.inc()

        for source, allocation in told.allocation.items():
            self._allocations[source, allocation].inc()

    def composed(self, thought: ThoughtEntry) -> None:
        """Count what came of a thought beside its events."""
        effort = thought.effort
        if effort is None:
            return
        if effort.repeats:
            self._repeating.inc()
        for settled in effort.items:
            self._taken_up[settled.outcome].inc()
        if effort.items and effort.by_model:
            handled = any(settled.outcome is Outcome.HANDLED for settled in effort.items)
            self._decisions["response" if effort.responded else "silence" if handled else "none"].inc()

    def summed_up(self, answer: Answer) -> None:
        """Count a summary of what a swarm remembers, and what it cost."""
        self._summaries[answer.by_model].inc()
        self._tokens(answer)

    def taken(self, details: BatchTaken) -> None:
        """Count a batch that begins."""
        self._batch_rows.observe(len(details.waits))
        self._batch_fill.observe(len(details.waits) / details.limit)
        for wait in details.waits:
            self._batch_wait.observe(wait)

    def done(self, details: BatchDone) -> None:
        """Count a batch that is through."""
        self._batch_inference.observe(details.seconds)

    def fault(self, details: BatchFault) -> None:
        """Count a batch that failed as a whole."""
        self._batch_faults.labels(details.kind).inc()
