"""A CTranslate2 model in this process: loading, the chat template, batches [H1, H2, H14]."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any

import structlog
from msgspec import structs

from libs.cognition.compose import Answer, failed
from libs.contracts.limits import U32_MAX
from libs.contracts.thoughts import Usage
from libs.runtime.process import ConfigurationError
from libs.settings.cognition import PREFIX, ThinkerSettings
from services.thinker.backends.batching import Batcher, Limits, Row
from services.thinker.backends.chat import ChatTokenizer, Shared
from services.thinker.backends.computing import WEIGHTS, asked_type, stored_type, tell_of_another, weights_of
from services.thinker.backends.devices import (
    GPU_CURE,
    TOKENS_A_ROW,
    Device,
    choose_device,
    has_cublas,
    is_out_of_memory,
    prepare,
)
from services.thinker.backends.endings import end_tokens
from services.thinker.backends.heap import Heap
from services.thinker.backends.telemetry import BatchTelemetry
from services.thinker.backends.window import window_of
from services.thinker.budget import Budget, budget_of
from services.thinker.prompt import SYSTEM, Prompt

log = structlog.get_logger("ctranslate2")

_TOP_K = 50
"""On a GPU nucleus sampling needs a top-k. A CPU has the same one: what may be said is the same on both."""

_MIXED = 0.25
"""Lengths of a batch differ by up to this share of an answer, where nothing forbids it: each token that a
prompt is longer costs a step of decoding."""

_SURE = 4
"""A batch is watched for late rows unless so many times the slowest one would still be in time. Late thoughts
are answered at their deadline either way; unwatched, what they still cost is bounded by this."""

_FORGOTTEN = 0.95

_NO_SEED = U32_MAX
"""Means to CTranslate2 that no seed was set: it takes another one each time."""

_STOP, _LENGTH = "stop", "length"


@dataclass(frozen=True)
class Loaded:
    """A model and what it runs on."""

    generator: Any
    chat: ChatTokenizer
    device: Device
    compute_type: str
    budget: Budget


class CTranslate2:
    """Generates in batches: what waits goes together, equals with equals, on as many threads as cores.

    The penalty for repetition counts what a prompt has beyond the shortest of its batch as if the model had
    said it, so with a penalty only prompts of equal length share a batch and each answer is what it would be
    alone. Prompts are therefore filled up to a multiple of `length_step` tokens with line ends between the
    shared beginning and the persona's part, each by its own length only.
    """

    always: Answer | None = None

    def __init__(self, settings: ThinkerSettings, path: Path, loaded: Loaded, why: str) -> None:
        self.model: str | None = path.name
        self.device = loaded.device.name
        self.compute_type = loaded.compute_type
        self.weights = weights_of(path)
        self.description = (
            f"{path.name} in this process on {self.device} ({self.compute_type}), because {why}"
        )
        self.budget = loaded.budget
        self.ignores = _ignored(settings, loaded.budget)
        """Settings that this backend cannot honour."""

        self._chat = loaded.chat
        self._generator = loaded.generator
        self._sampling = _sampling(settings, loaded.budget)
        if (ends := end_tokens(path, loaded.chat.end)) is not None:
            self._sampling["end_token"] = ends
        self._shared = _shared(settings, loaded.chat)
        self._filler = loaded.chat.filler()
        self._step = settings.length_step
        self._timeout_s = settings.timeout_ms / 1000
        self._slowest = inf
        """Seconds of the slowest batch, of late; endless until there was one."""

        self._pool = ThreadPoolExecutor(loaded.device.workers, thread_name_prefix="generate")
        self._heap = Heap(self._pool)
        limits = _limits(loaded, self._sampling["repetition_penalty"])
        self._batcher = Batcher(self._run, limits, loaded.device.workers, self._timeout_s)

    @property
    def capacity(self) -> int:
        """Prompts that may usefully be under way at once."""
        return self._batcher.capacity

    @property
    def telemetry(self) -> BatchTelemetry:
        """Who is told of batches."""
        return self._batcher.telemetry

    @telemetry.setter
    def telemetry(self, telemetry: BatchTelemetry) -> None:
        self._batcher.telemetry = telemetry

    def count(self, text: str) -> int:
        """Return how many tokens of the model a text takes."""
        return self._chat.count(text)

    def tokens(self, prompt: Prompt) -> list[str]:
        """Return a prompt as the model gets it, filled up to its length."""
        return self._filled(self._chat.tokens(prompt))

    def _filled(self, tokens: list[str]) -> list[str]:
        begin = self._shared.begin
        missing = -len(tokens) % self._step
        fits = len(tokens) + missing <= self.budget.window - self.budget.asked
        if not missing or not fits or self._filler is None or tokens[: len(begin)] != begin:
            return tokens
        return [*begin, *[self._filler] * missing, *tokens[len(begin) :]]

    async def answer(self, prompt: Prompt) -> Answer:
        """Return the model's answer, as part of a batch. Its usage is without what fills the prompt up."""
        try:
            asked = self._chat.tokens(prompt)
            tokens = self._filled(asked)
        except Exception as error:  # noqa: BLE001 - the error is the answer
            return failed(f"{type(error).__name__}: {error}")
        if len(tokens) + self.budget.asked > self.budget.window:
            return failed(
                f"a prompt of {len(tokens)} tokens is too long for a window of {self.budget.window}"
            )
        answer = await self.answer_tokens(tokens, len(asked))
        if not prompt.prefill or answer.text is None or not answer.by_model:
            return answer
        return structs.replace(answer, text=prompt.prefill + answer.text)

    async def answer_tokens(self, tokens: list[str], own: int | None = None) -> Answer:
        """Return the model's answer to a prompt in its tokens, as they are; `own` is the batcher's."""
        return await self._batcher.answer(tokens, own)

    async def close(self) -> None:
        """Wait for the batches under way and let go of the model."""
        await self._batcher.close()
        self._heap.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _run(self, batch: Sequence[Row]) -> list[Answer]:
        loop = asyncio.get_running_loop()
        left = self._timeout_s - (loop.time() - min(row.came for row in batch))
        watched = left < _SURE * self._slowest
        try:
            return await loop.run_in_executor(self._pool, self._generate, list(batch), watched)
        finally:
            self._heap.used()

    def _generate(self, batch: list[Row], watched: bool) -> list[Answer]:
        """Think a batch. Where it is watched, a row that is over ends: some 10 µs a token and row."""
        began = perf_counter()
        static = self._shared.static
        if any(row.tokens[: len(static)] != static for row in batch):
            static = []
        results = self._generator.generate_batch(
            [row.tokens[len(static) :] for row in batch],
            static_prompt=static or None,
            callback=(lambda step: batch[step.batch_id].is_over()) if watched else None,
            **self._sampling,
        )
        seconds = perf_counter() - began
        known = 0.0 if self._slowest == inf else self._slowest
        self._slowest = max(seconds, _FORGOTTEN * known)
        elapsed, share = round(seconds * 1000), round(seconds * 1000 / len(batch))
        return [self._answer(row, result, elapsed, share) for row, result in zip(batch, results, strict=True)]

    def _answer(self, row: Row, result: Any, elapsed: int, share: int) -> Answer:
        ids = result.sequences_ids[0]
        asked, said = row.own, len(ids)
        return Answer(
            text=self._chat.text(ids),
            model=self.model,
            finish_reason=_LENGTH if said >= self.budget.asked else _STOP,
            usage=Usage(prompt_tokens=asked, completion_tokens=said, total_tokens=asked + said),
            latency_ms=elapsed,
            token_ids=ids,
            cpu_ms=share,
        )


def _limits(loaded: Loaded, penalty: float) -> Limits:
    rows, asked = loaded.device.batch, loaded.budget.asked
    return Limits(
        rows=rows,
        tokens=rows * TOKENS_A_ROW,
        scores=loaded.device.long_rows * TOKENS_A_ROW**2,
        spread=0 if penalty != 1 else int(asked * _MIXED),
        added=asked,
    )


def _sampling(settings: ThinkerSettings, budget: Budget) -> dict[str, Any]:
    greedy = settings.temperature == 0
    return {
        "max_length": budget.asked,
        "min_length": 1,  # an answer that ends before it begins is a fallback, and was paid for
        "include_prompt_in_result": False,
        "sampling_topk": 1 if greedy else _TOP_K,
        "sampling_topp": 1.0 if greedy or settings.top_p is None else settings.top_p,
        "sampling_temperature": 1.0 if greedy else settings.temperature,
        "repetition_penalty": settings.repeat_penalty if settings.repeat_last_n else 1.0,
    }


def _ignored(settings: ThinkerSettings, budget: Budget) -> tuple[str, ...]:
    """Return what cannot be: the penalty looks back on the whole answer, and a seed is below 2^32 - 1."""
    looks_back = 0 < settings.repeat_last_n < budget.asked and settings.repeat_penalty != 1
    names = [("THINKER_REPEAT_LAST_N", looks_back), ("THINKER_SEED", settings.seed >= _NO_SEED)]
    return tuple(name for name, is_ignored in names if is_ignored)


def _shared(settings: ThinkerSettings, chat: ChatTokenizer) -> Shared:
    shared = chat.shared(SYSTEM)
    if not settings.static_prompt:
        return Shared(shared.begin, [])
    if shared.static:
        log.info("static_prompt", tokens=len(shared.static))
    else:
        log.info(
            "no_static_prompt", because="the chat template puts no special token behind the system prompt"
        )
    return shared


def load(settings: ThinkerSettings, path: Path) -> Loaded:
    """Load a model folder and its tokenizer and warm both up. Blocks for seconds.

    Raises `ConfigurationError` with one line that says what is wrong and what would be right.
    """
    if not (path / WEIGHTS).is_file():
        raise ConfigurationError(
            f"{path} is not a CTranslate2 model folder (no {WEIGHTS} in it); "
            f"set {PREFIX}THINKER_CT2_MODEL_PATH to one"
        )
    stored = stored_type(settings, path)
    prepare(settings, stored)
    ctranslate2 = _library()
    chat = ChatTokenizer.load(Path(settings.tokenizer_path) if settings.tokenizer_path else path)
    budget = budget_of(window_of(path, settings.window), settings.max_tokens)
    device = choose_device(settings, ctranslate2)
    try:
        generator = ctranslate2.Generator(
            str(path),
            device=device.name,
            device_index=device.index,
            compute_type=asked_type(settings, stored),
            inter_threads=device.workers,
            intra_threads=device.threads,
        )
    except (RuntimeError, ValueError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        cure = "free memory" if is_out_of_memory(error) else "convert it again"
        raise ConfigurationError(
            f"the model {path} cannot be loaded on {device.name}: {reason}; {cure}, set "
            f"{PREFIX}THINKER_CT2_MODEL_PATH to another folder or {PREFIX}THINKER_CT2_COMPUTE_TYPE to `auto`"
        ) from error
    ctranslate2.set_random_seed(settings.seed % _NO_SEED)
    _warm_up(generator, chat, path, device)
    computed_in = str(generator.compute_type)
    tell_of_another(stored, device.name, computed_in)
    return Loaded(generator, chat, device, computed_in, budget)


def _library() -> Any:
    """Import CTranslate2: 0.1 s and 26 MiB that a thinker without a model does not need."""
    try:
        import ctranslate2
    except (ImportError, OSError) as error:
        raise ConfigurationError(
            f"CTranslate2 cannot be imported: {error}; run `just install`, or set {PREFIX}THINKER_BACKEND "
            "to `openai_compat`"
        ) from error
    return ctranslate2


def _warm_up(generator: Any, chat: ChatTokenizer, path: Path, device: Device) -> None:
    """Have one token said to "Hi", at temperature 0, and thrown away [H1].

    Raises `ConfigurationError`: a missing cuBLAS, or a template that refuses everything, shows only here.
    """
    try:
        prompt = chat.tokens(Prompt("", "Hi"))
        generator.generate_batch([prompt], max_length=1, sampling_topk=1, include_prompt_in_result=False)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        cure = f"{GPU_CURE}, or set" if device.name == "cuda" and not has_cublas() else "set"
        raise ConfigurationError(
            f"the model {path} was loaded on {device.name} and answers nothing: {reason}; {cure} "
            f"{PREFIX}THINKER_CT2_MODEL_PATH to another folder or {PREFIX}THINKER_CT2_DEVICE to `cpu`"
        ) from error
