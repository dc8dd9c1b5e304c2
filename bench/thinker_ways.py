"""The ways of thinking that bench.thinker compares, each on the same prompts."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from time import perf_counter, process_time
from typing import Any

from msgspec import Struct

from bench.standin import standin
from bench.thinker_setup import Exactly, Setup, prompts, roofline
from libs.cognition.compose import Answer
from services.thinker.backends.chat import ChatTokenizer
from services.thinker.backends.ct2 import CTranslate2, load
from services.thinker.backends.devices import cores, prepare
from services.thinker.backends.openai_compat import OpenAICompat
from services.thinker.backends.telemetry import BatchTaken, NoTelemetry
from services.thinker.prompt import SYSTEM, Prompt


class Figure(Struct, kw_only=True, omit_defaults=True):
    """What one way brought for some personas; of several runs, the median one by seconds."""

    way: str
    personas: int
    batch: int
    asked: int
    """Prompts measured: one at a time not all of many, but every n-th."""

    seconds: float
    thoughts_per_s: float
    tokens_per_s: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    """Processor time of a thought in this process: what other load on the machine changes least."""

    fill: float | None = None
    """Rows of the batches by the most they might have had."""

    roofline_share: float | None = None
    times_sequential: float | None = None


class Fill(NoTelemetry):
    """How full batches were."""

    def __init__(self) -> None:
        self.rows = 0
        self.room = 0

    def taken(self, details: BatchTaken) -> None:
        self.rows += len(details.waits)
        self.room += details.limit


Ask = Callable[[Prompt], Awaitable[Answer]]


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


async def sequential(setup: Setup, personas: int, runs: int, most: int) -> Figure:
    """The generator one prompt at a time at its best: all cores for one, the system prompt cached."""
    settings = setup.settings()
    prepare(settings)
    import ctranslate2

    chat = ChatTokenizer.load(setup.folder)
    generator = ctranslate2.Generator(
        str(setup.folder),
        device=setup.device,
        compute_type=setup.compute_type,
        inter_threads=1,
        intra_threads=cores() if setup.device == "cpu" else 0,
    )
    static = chat.shared(SYSTEM).static
    options = {
        "static_prompt": static,
        "max_length": setup.tokens,
        "min_length": setup.tokens,
        "repetition_penalty": settings.repeat_penalty,
        "include_prompt_in_result": False,
    }
    everybody = prompts(personas)
    asked = everybody[:: -(-personas // most)]

    async def ask(prompt: Prompt) -> Answer:
        tokens = chat.tokens(prompt)[len(static) :]
        (result,) = generator.generate_batch([tokens], **options)
        return Answer(text=chat.text(result.sequences_ids[0]))

    await ask(asked[0])
    timed = [await _run(lambda: in_turn(ask, asked)) for _ in range(runs)]
    return _figure("one at a time", setup, personas, 1, timed)


async def batched(setup: Setup, personas: int, runs: int, batch: int) -> Figure:
    """The micro-batcher, as the thinker runs it; everybody is ticked at once."""
    settings = setup.settings(CT2_BATCH_SIZE=str(batch))
    loaded = await asyncio.to_thread(load, settings, setup.folder)
    lengths = [len(loaded.chat.tokens(prompt)) for prompt in prompts(personas)]
    rows = loaded.device.batch
    backend = CTranslate2(
        settings,
        setup.folder,
        replace(loaded, generator=Exactly(loaded.generator, setup.tokens)),
        "it is measured",
    )
    try:
        asked = prompts(personas)
        await together(backend.answer, asked[: min(personas, 2 * loaded.device.workers)])
        backend.telemetry = fill = Fill()
        timed = [await _run(lambda: together(backend.answer, asked)) for _ in range(runs)]
    finally:
        await backend.close()
    figure = _figure("micro-batcher", setup, personas, rows, timed)
    figure.fill = round(fill.rows / fill.room, 3)
    bound = roofline(setup, min(rows, personas), statistics.fmean(lengths) + setup.tokens / 2)
    figure.roofline_share = round(figure.tokens_per_s / bound, 3) if bound is not None else None
    return figure


async def endpoint(setup: Setup, personas: int, runs: int, most: int, latency_ms: float) -> list[Figure]:
    """The endpoint backend against a stand-in with a latency: one prompt after another, and side by side."""
    asked = prompts(personas)
    found = []
    with standin(latency_ms) as url:
        backend = OpenAICompat(setup.settings(BASE_URL=url), "it is measured")
        try:
            await together(backend.answer, asked[:4])
            some = asked[:: -(-personas // most)]
            one = [await _run(lambda: in_turn(backend.answer, some)) for _ in range(runs)]
            all_ = [await _run(lambda: together(backend.answer, asked)) for _ in range(runs)]
        finally:
            await backend.close()
        found += [_figure(f"endpoint {latency_ms:g} ms, one at a time", setup, personas, 1, one)]
        found += [_figure(f"endpoint {latency_ms:g} ms, side by side", setup, personas, 128, all_)]
    found[1].times_sequential = round(found[1].thoughts_per_s / found[0].thoughts_per_s, 2)
    return found


def has_torch() -> bool:
    """Whether Hugging Face's own generation can be measured here."""
    return find_spec("torch") is not None


async def hugging_face(setup: Setup, personas: int, runs: int, batch: int) -> Figure:
    """Hugging Face generate on the same shape and weights, in padded batches. Needs torch."""
    from bench.thinker_torch import load_torch

    model = await asyncio.to_thread(load_torch, setup)
    asked = sorted(prompts(personas), key=lambda prompt: len(prompt.user))

    async def run() -> list[float]:
        began, found = perf_counter(), []
        for first in range(0, personas, batch):
            part = asked[first : first + batch]
            await asyncio.to_thread(model.generate, part)
            found += [perf_counter() - began] * len(part)
        return found

    await asyncio.to_thread(model.generate, asked[:1])
    timed = [await _run(run) for _ in range(runs)]
    return _figure("Hugging Face generate", setup, personas, batch, timed)


class Timed(Struct):
    """One run of one way."""

    seconds: float
    cpu: float
    latencies: list[float]


async def _run(work: Callable[[], Awaitable[list[float]]]) -> Timed:
    began, used = perf_counter(), process_time()
    latencies = await work()
    return Timed(perf_counter() - began, process_time() - used, latencies)


def _figure(way: str, setup: Setup, personas: int, batch: int, timed: list[Timed]) -> Figure:
    run = sorted(timed, key=lambda run: run.seconds)[(len(timed) - 1) // 2]
    asked = len(run.latencies)
    points: Any = statistics.quantiles(run.latencies, n=20) if asked > 1 else run.latencies * 19
    return Figure(
        way=way,
        personas=personas,
        batch=batch,
        asked=asked,
        seconds=round(run.seconds, 3),
        thoughts_per_s=round(asked / run.seconds, 3),
        tokens_per_s=round(asked * setup.tokens / run.seconds, 1),
        p50_ms=round(1000 * points[9], 1),
        p95_ms=round(1000 * points[18], 1),
        cpu_ms=round(1000 * run.cpu / asked, 1),
    )
