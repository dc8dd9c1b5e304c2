"""Capturing thoughts for `perpetua replay` [H18]: never slower and never fewer thoughts for it.

A thought is put into a bounded queue and stored by a task of its own, some at a time. What cannot be stored
is lost and counted; that captures are being lost is said once, and shown until they are kept again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum

import msgspec
import structlog
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter

from libs.bus.connection import Bus
from libs.bus.errors import NoStream, PublishRefused
from libs.cognition.compose import Answer
from libs.cognition.phases import phase_of
from libs.contracts import subjects
from libs.contracts.captures import Capture, CapturedAnswer, CapturedPrompt, CapturedSettings
from libs.contracts.limits import CAPTURE_BYTES
from libs.contracts.work import WorkItem
from libs.settings.cognition import ThinkerSettings
from services.thinker.backends.base import Backend
from services.thinker.backends.honouring import ignored
from services.thinker.prompt import Prompt

log = structlog.get_logger("capture")

SAMPLE_PER_S = 20
"""Thoughts a second that a thinker keeps with `sample`: all of a small swarm's, at a bounded cost."""

QUEUED = 512
OUTSTANDING = 64
"""Captures that may wait for their acknowledgement at once."""

WELL_AFTER_S = 5.0
"""A loss counts as over when for so many seconds nothing was lost."""

_encode = msgspec.json.Encoder().encode


class CaptureOutcome(StrEnum):
    """What became of a thought that could be captured."""

    KEPT = "kept"
    LEFT_OUT = "left_out"
    LOST = "lost"
    TOO_LARGE = "too_large"


class CaptureMetrics:
    """Metrics of capturing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        captures = Counter(
            "perpetua_captures_total",
            "Thoughts by a model, by what became of their capture; `left_out` is by PERPETUA_CAPTURE.",
            ["outcome"],
            registry=registry,
        )
        self._captures = {outcome: captures.labels(outcome.value) for outcome in CaptureOutcome}

    def count(self, outcome: CaptureOutcome) -> None:
        """Count a thought."""
        self._captures[outcome].inc()


class Thought(Struct, frozen=True):
    """A thought to be captured."""

    item: WorkItem
    prompt: Prompt
    backend: Backend
    answer: Answer
    at: datetime


class Sampler:
    """At most so many a second, evenly: a token bucket that holds one second's worth."""

    def __init__(self, per_s: int, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._clock = clock
        self._left = float(per_s)
        self._at = clock()

    def takes(self) -> bool:
        """Whether one more is taken now."""
        now = self._clock()
        self._left = min(self._left + (now - self._at) * self._per_s, float(self._per_s))
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Captures:
    """Keeps what `mode` says: `off`, `failures`, `sample` or `all`."""

    def __init__(
        self,
        bus: Bus,
        mode: str,
        instance: str,
        settings: ThinkerSettings,
        metrics: CaptureMetrics,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._bus = bus
        self._mode = mode
        self._instance = instance
        self._settings = settings
        self._metrics = metrics
        self._changed = changed
        self._clock = asyncio.get_running_loop().time
        self._sampler = Sampler(SAMPLE_PER_S, self._clock)
        self._queue: asyncio.Queue[Thought] = asyncio.Queue(QUEUED)
        self._room = asyncio.Semaphore(OUTSTANDING)
        self._trouble: str | None = None
        self._lost_at = 0.0

    def trouble(self) -> str | None:
        """Return why captures are being lost, and the cure; None while they are kept."""
        return self._trouble

    def take(self, item: WorkItem, prompt: Prompt, backend: Backend, answer: Answer) -> None:
        """Capture a thought, if it is one of those that are kept. Never waits and never fails."""
        if self._mode == "off" or backend.always is not None or not answer.asked:
            return None
        if not self._wants(answer):
            return self._metrics.count(CaptureOutcome.LEFT_OUT)
        try:
            self._queue.put_nowait(Thought(item, prompt, backend, answer, datetime.now(UTC)))
        except asyncio.QueueFull:
            self._lose("the broker takes them more slowly than they come", "set PERPETUA_CAPTURE=sample")
        return None

    async def run(self) -> None:
        """Store what is taken, until cancelled."""
        while True:
            thought = await self._queue.get()
            await self._room.acquire()
            try:
                await self._store(thought)
            except Exception as error:  # noqa: BLE001 - no capture may ever end the thinker
                self._room.release()
                self._lose(f"{type(error).__name__}: {error}", "see the thinker's log")

    async def _store(self, thought: Thought) -> None:
        data = _encode(self._capture(thought))
        if len(data) > CAPTURE_BYTES:
            self._room.release()
            log.debug("capture_too_large", persona=thought.item.persona_id, size=len(data))
            return self._metrics.count(CaptureOutcome.TOO_LARGE)
        if not self._bus.connected:
            self._room.release()
            return self._metrics.count(CaptureOutcome.LOST)  # that the broker is away is said elsewhere
        subject = subjects.capture(thought.item.persona_id, thought.item.thought_count)
        stored = await self._bus.publisher.send(subject, data)
        stored.add_done_callback(self._settled)
        return None

    def _settled(self, stored: asyncio.Future[int]) -> None:
        self._room.release()
        if stored.cancelled():
            return self._metrics.count(CaptureOutcome.LOST)
        error = stored.exception()
        if error is None:
            return self._kept()
        missing = isinstance(error, PublishRefused | NoStream)
        cure = "run `perpetua provision`" if missing else "see the broker's log"
        return self._lose(str(error), cure)

    def _wants(self, answer: Answer) -> bool:
        if self._mode == "failures":
            return not (answer.text and answer.text.strip())
        return self._mode == "all" or self._sampler.takes()

    def _kept(self) -> None:
        self._metrics.count(CaptureOutcome.KEPT)
        if self._trouble is not None and self._clock() - self._lost_at > WELL_AFTER_S:
            log.info("captures_back")
            self._trouble = None
            self._changed()

    def _lose(self, error: str, cure: str) -> None:
        self._metrics.count(CaptureOutcome.LOST)
        self._lost_at = self._clock()
        if self._trouble is None:
            log.warning("captures_lost", error=error, cure=cure)
            self._trouble = f"thoughts are not captured: {error}; {cure}"
            self._changed()

    def _capture(self, thought: Thought) -> Capture:
        item, answer = thought.item, thought.answer
        return Capture(
            persona_id=item.persona_id,
            swarm_id=item.swarm_id,
            thought_count=item.thought_count,
            phase=phase_of(item.thought_count).value,
            at=thought.at,
            thinker=self._instance,
            prompt=CapturedPrompt(
                system=thought.prompt.system, user=thought.prompt.user, prefill=thought.prompt.prefill
            ),
            context=item.context,
            settings=settings_of(self._settings, thought.backend),
            answer=answer_of(answer),
        )


def settings_of(settings: ThinkerSettings, backend: Backend) -> CapturedSettings:
    """Return what thinks and how, without anything secret."""
    endpoint: str | None = getattr(backend, "endpoint", None)
    in_process = endpoint is None
    path = getattr(backend, "path", None) or settings.model_path
    return CapturedSettings(
        backend="ctranslate2" if in_process else "openai_compat",
        model=backend.model or settings.model,
        endpoint=endpoint,
        model_path=str(path) if in_process and path else None,
        tokenizer_path=settings.tokenizer_path if in_process else None,
        device=getattr(backend, "device", None),
        compute_type=getattr(backend, "compute_type", None),
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
        repeat_penalty=settings.repeat_penalty,
        repeat_last_n=settings.repeat_last_n,
        seed=settings.seed,
        seed_given=settings.seed_given,
        window=settings.window,
        timeout_ms=settings.timeout_ms,
        device_index=settings.device_index if in_process else None,
        length_step=settings.length_step if in_process else None,
        static_prompt=settings.static_prompt if in_process else None,
        weights=getattr(backend, "weights", None),
        not_honoured=[field_of(name) for name in ignored(backend)],
    )


def field_of(setting: str) -> str:
    """Return under which name a capture has a setting of thinkers."""
    return setting.removeprefix("THINKER_").lower()


def answer_of(answer: Answer) -> CapturedAnswer:
    """Return an answer as it is kept and shown."""
    return CapturedAnswer(
        text=answer.text,
        model=answer.model,
        finish_reason=answer.finish_reason,
        usage=answer.usage,
        latency_ms=answer.latency_ms,
        error=answer.error,
        token_ids=answer.token_ids,
    )
