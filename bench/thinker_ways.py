"""The ways of thinking that bench.thinker compares, each on the same prompts.

All that are compared are loaded at once and take turns, run by run, so that a machine that gets slower for a
while does so for each of them.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from time import perf_counter, process_time
from typing import Any

from msgspec import Struct

from bench.standin import standin
from bench.thinker_figures import Figure, Timed
from bench.thinker_setup import Exactly, Setup, prompts, roofline
from libs.cognition.compose import Answer
from services.thinker.backends.chat import ChatTokenizer
from services.thinker.backends.ct2 import CTranslate2, Loaded, load
from services.thinker.backends.devices import Device, choose_device, cores, prepare
from services.thinker.backends.openai_compat import OpenAICompat
from services.thinker.backends.telemetry import BatchTaken, NoTelemetry
from services.thinker.prompt import SYSTEM, Prompt

_HF_BATCH = 64
_REST_S = 0.3
"""Between runs: threads of the one before that still spin come to rest."""


class Fill(NoTelemetry):
    """How full batches were."""

    def __init__(self) -> None:
        self.batches = 0
        self.rows = 0
        self.room = 0

    def taken(self, details: BatchTaken) -> None:
        self.batches += 1
        self.rows += len(details.waits)
        self.room += details.limit


class Models:
    """What is loaded, once for all figures."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    @cached_property
    def chat(self) -> ChatTokenizer:
        """The tokenizer."""
        return ChatTokenizer.load(self.setup.folder)

    @cached_property
    def alone(self) -> Any:
        """The generator at its best for one prompt: all cores."""
        prepare(self.setup.settings())
        import ctranslate2

        return ctranslate2.Generator(
            str(self.setup.folder),
            device=self.setup.device,
            compute_type=self.setup.compute_type,
            inter_threads=1,
            intra_threads=cores() if self.setup.device == "cpu" else 0,
        )

    @cached_property
    def _loaded(self) -> Loaded:
        loaded = load(self.setup.settings(), self.setup.folder)
        return replace(loaded, generator=Exactly(loaded.generator, self.setup.tokens))

    def batched(self, batch: int) -> tuple[CTranslate2, Device]:
        """The thinker's own backend, with batches of so many rows; 0: its own choice."""
        import ctranslate2

        settings = self.setup.settings(CT2_BATCH_SIZE=str(batch))
        loaded = replace(self._loaded, device=choose_device(settings, ctranslate2))
        return CTranslate2(settings, self.setup.folder, loaded, "it is measured"), loaded.device

    @cached_property
    def torch(self) -> Any:
        """The same weights in Hugging Face's own model."""
        from bench.thinker_torch import load_torch

        return load_torch(self.setup)


class Way(Struct, frozen=True, kw_only=True):
    """One way, warm."""

    name: str
    batch: int
    run: Callable[[], Awaitable[list[float]]]
    """Thinks once; returns the seconds of each thought."""

    against: str | None = None
    """The way that it is compared with."""

    completes: Callable[[Figure], None] = lambda _: None
    """Adds what only this way knows."""


SEQUENTIAL = "one at a time"
BATCHED = "micro-batcher"
TORCH = "Hugging Face generate"
WAYS = ("sequential", "batched", "torch", "endpoint")

Ask = Callable[[Prompt], Awaitable[Answer]]
Opened = AbstractAsyncContextManager[list[Way]]
"""Ways that are warm while the context is open."""


async def measure(
    models: Models, personas: int, ways: Sequence[Opened], runs: int, say: Callable[[str], None]
) -> list[Figure]:
    """Let ways take turns for so many runs, and return the figures of each."""
    async with AsyncExitStack() as stack:
        warm = [way for opened in ways for way in await stack.enter_async_context(opened)]
        timed: dict[tuple[str, int], list[Timed]] = {(way.name, way.batch): [] for way in warm}
        for number in range(runs):
            for way in warm:
                say(f"{personas} personas: run {number + 1} of {runs}, {way.name}, batches of {way.batch}")
                await asyncio.sleep(_REST_S)
                timed[way.name, way.batch].append(await _timed_run(way))
        figures = []
        for way in warm:
            others = next((found for (name, _), found in timed.items() if name == way.against), None)
            found = timed[way.name, way.batch]
            figure = Figure.of(way.name, personas, way.batch, models.setup.tokens, found, others)
            way.completes(figure)
            figures.append(figure)
    return figures


async def _timed_run(way: Way) -> Timed:
    began, used = perf_counter(), process_time()
    latencies = await way.run()
    return Timed(perf_counter() - began, process_time() - used, latencies)


async def in_turn(ask: Ask, asked: Sequence[Prompt]) -> list[float]:
    """Ask one prompt after another; return the seconds of each."""
    return [await _timed(ask, prompt) for prompt in asked]


async def together(ask: Ask, asked: Sequence[Prompt]) -> list[float]:
    """Ask all prompts at once; return the seconds of each."""
    return list(await asyncio.gather(*(_timed(ask, prompt) for prompt in asked)))


async def _timed(ask: Ask, prompt: Prompt) -> float:
    began = perf_counter()
    answer = await ask(prompt)
    if answer.error is not None:
        raise RuntimeError(f"a prompt had no answer: {answer.error}")
    return perf_counter() - began


@asynccontextmanager
async def sequential(models: Models, personas: int, most: int) -> AsyncIterator[list[Way]]:
    """The generator one prompt at a time at its best: all cores for one, the system prompt cached."""
    setup, chat, generator = models.setup, models.chat, models.alone
    static = chat.shared(SYSTEM).static
    options = {
        "static_prompt": static,
        "max_length": setup.tokens,
        "min_length": setup.tokens,
        "repetition_penalty": setup.settings().repeat_penalty,
        "include_prompt_in_result": False,
    }
    asked = _some(personas, most)

    async def ask(prompt: Prompt) -> Answer:
        tokens = chat.tokens(prompt)[len(static) :]
        (result,) = generator.generate_batch([tokens], **options)
        ids = result.sequences_ids[0]
        return _exactly(setup.tokens, Answer(text=chat.text(ids), token_ids=ids))

    await ask(asked[0])
    yield [Way(name=SEQUENTIAL, batch=1, run=lambda: in_turn(ask, asked))]


@asynccontextmanager
async def batched(models: Models, personas: int, batch: int) -> AsyncIterator[list[Way]]:
    """The micro-batcher, as the thinker runs it; everybody is ticked at once."""
    backend, device = models.batched(batch)
    asked, fill, rows = prompts(personas), Fill(), device.batch
    length = statistics.fmean(len(backend.tokens(prompt)) for prompt in asked) + models.setup.tokens / 2

    async def ask(prompt: Prompt) -> Answer:
        return _exactly(models.setup.tokens, await backend.answer(prompt))

    def complete(figure: Figure) -> None:
        figure.fill = round(fill.rows / fill.room, 3)
        figure.rows = round(fill.rows / fill.batches, 1)
        bound = roofline(models.setup, fill.rows / fill.batches, length)
        figure.roofline_share = round(figure.tokens_per_s / bound, 3) if bound is not None else None

    try:
        await together(ask, asked[: min(personas, 2 * device.workers)])
        backend.telemetry = fill
        yield [
            Way(
                name=BATCHED,
                batch=rows,
                run=lambda: together(ask, asked),
                against=SEQUENTIAL,
                completes=complete,
            )
        ]
    finally:
        await backend.close()


@asynccontextmanager
async def endpoint(setup: Setup, personas: int, most: int, latency_ms: float) -> AsyncIterator[list[Way]]:
    """The endpoint backend against a stand-in with a latency: one prompt after another, and side by side."""
    asked, some = prompts(personas), _some(personas, most)
    alone = f"endpoint {latency_ms:g} ms, one at a time"
    beside = f"endpoint {latency_ms:g} ms, side by side"
    with standin(latency_ms) as url:
        settings = setup.settings(BASE_URL=url)
        backend = OpenAICompat(settings, "it is measured")
        try:
            await together(backend.answer, asked[:4])
            yield [
                Way(name=alone, batch=1, run=lambda: in_turn(backend.answer, some)),
                Way(
                    name=beside,
                    batch=settings.concurrency,
                    run=lambda: together(backend.answer, asked),
                    against=alone,
                ),
            ]
        finally:
            await backend.close()


def _exactly(tokens: int, answer: Answer) -> Answer:
    """Return an answer that has so many new tokens, as the figures count them. Raises `RuntimeError`."""
    if answer.error is None and len(answer.token_ids or ()) != tokens:
        raise RuntimeError(f"an answer of {len(answer.token_ids or ())} tokens instead of {tokens}")
    return answer


def has_torch() -> bool:
    """Whether Hugging Face's own generation can be measured here."""
    return find_spec("torch") is not None


@asynccontextmanager
async def hugging_face(models: Models, personas: int) -> AsyncIterator[list[Way]]:
    """Hugging Face generate on the same shape and weights, in padded batches. Needs torch."""
    model = await asyncio.to_thread(lambda: models.torch)
    asked = sorted(prompts(personas), key=lambda prompt: len(prompt.user))

    async def run() -> list[float]:
        began, found = perf_counter(), []
        for first in range(0, personas, _HF_BATCH):
            part = asked[first : first + _HF_BATCH]
            await asyncio.to_thread(model.generate, part)
            found += [perf_counter() - began] * len(part)
        return found

    await asyncio.to_thread(model.generate, asked[:1])
    yield [Way(name=TORCH, batch=min(_HF_BATCH, personas), run=run, against=SEQUENTIAL)]


def _some(personas: int, most: int) -> list[Prompt]:
    """Return every n-th prompt, so that they are no more than `most`."""
    return prompts(personas)[:: -(-personas // most)]
