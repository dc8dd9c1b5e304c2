"""A CTranslate2 model in this process: loading, the chat template, batches [H1, H2, H14]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import structlog

from libs.cognition.compose import Answer, failed
from libs.contracts.thoughts import Usage
from libs.runtime.process import ConfigurationError
from libs.settings.cognition import PREFIX, ThinkerSettings
from services.thinker.backends.batching import Batcher
from services.thinker.backends.chat import ChatTokenizer
from services.thinker.prompt import Prompt

log = structlog.get_logger("ctranslate2")

CPU_BATCH = 16
GPU_BATCH = 64
_TOP_K = 50
"""On a GPU nucleus sampling needs a top-k; 50 cuts nothing that matters."""

_STOP, _LENGTH = "stop", "length"


@dataclass(frozen=True)
class Loaded:
    """A model and what it runs on."""

    generator: Any
    chat: ChatTokenizer
    device: str
    compute_type: str
    workers: int
    batch: int


class CTranslate2:
    """Generates in batches: what waits goes together, shortest with shortest, on as many threads as cores."""

    immediate = False
    ignores = ("THINKER_REPEAT_LAST_N",)
    """Settings that this backend cannot honour: its penalty looks back on the whole text."""

    def __init__(self, settings: ThinkerSettings, path: Path, loaded: Loaded, why: str) -> None:
        self.model: str | None = path.name
        self.device = loaded.device
        self.compute_type = loaded.compute_type
        self.description = (
            f"{path.name} in this process on {loaded.device} ({loaded.compute_type}), because {why}"
        )
        self.capacity = 2 * loaded.batch * loaded.workers
        self._settings = settings
        self._loaded = loaded
        self._pool = ThreadPoolExecutor(loaded.workers, thread_name_prefix="generate")
        self._batcher = Batcher(self._run, loaded.batch, loaded.workers)

    async def answer(self, prompt: Prompt) -> Answer:
        """Return the model's answer, as part of a batch."""
        try:
            tokens = self._loaded.chat.tokens(prompt)
        except Exception as error:  # noqa: BLE001 - the error is the answer
            return failed(f"{type(error).__name__}: {error}")
        return await self._batcher.answer(tokens)

    async def close(self) -> None:
        """Wait for the batches under way and let go of the model."""
        await self._batcher.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _run(self, batch: Sequence[list[str]]) -> list[Answer]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._generate, list(batch))

    def _generate(self, batch: list[list[str]]) -> list[Answer]:
        began = perf_counter()
        deadline = began + self._settings.timeout_ms / 1000
        late: set[int] = set()

        def on_token(step: Any) -> bool:
            if perf_counter() < deadline:
                return False
            late.add(step.batch_id)
            return True

        results = self._loaded.generator.generate_batch(batch, callback=on_token, **self._sampling())
        elapsed = round((perf_counter() - began) * 1000)
        return [
            self._late(elapsed) if index in late else self._answer(batch[index], result, elapsed)
            for index, result in enumerate(results)
        ]

    def _sampling(self) -> dict[str, Any]:
        settings = self._settings
        greedy = settings.temperature == 0
        return {
            "max_length": settings.max_tokens,
            "include_prompt_in_result": False,
            "sampling_topk": 1 if greedy else _TOP_K,
            "sampling_topp": 1.0 if greedy or settings.top_p is None else settings.top_p,
            "sampling_temperature": 1.0 if greedy else settings.temperature,
            "repetition_penalty": settings.repeat_penalty,
        }

    def _answer(self, prompt: list[str], result: Any, elapsed: int) -> Answer:
        ids = result.sequences_ids[0]
        return Answer(
            text=self._loaded.chat.text(ids),
            model=self.model,
            finish_reason=_LENGTH if len(ids) >= self._settings.max_tokens else _STOP,
            usage=Usage(
                prompt_tokens=len(prompt), completion_tokens=len(ids), total_tokens=len(prompt) + len(ids)
            ),
            latency_ms=elapsed,
        )

    def _late(self, elapsed: int) -> Answer:
        return failed(f"no answer within {self._settings.timeout_ms} ms", elapsed)


def load(settings: ThinkerSettings, path: Path) -> Loaded:
    """Load a model folder and its tokenizer and warm both up. Blocks for seconds.

    Raises `ConfigurationError` with one line that says what is wrong and what would be right.
    """
    if not (path / "model.bin").is_file():
        raise ConfigurationError(
            f"{path} is not a CTranslate2 model folder (no model.bin in it); "
            f"set {PREFIX}THINKER_CT2_MODEL_PATH to one"
        )
    import ctranslate2  # 0.1 s and 26 MiB that a thinker without a model does not need

    chat = ChatTokenizer.load(Path(settings.tokenizer_path) if settings.tokenizer_path else path)
    device = _device(settings, ctranslate2)
    workers, batch = (_cores(), CPU_BATCH) if device == "cpu" else (1, GPU_BATCH)
    try:
        generator = ctranslate2.Generator(
            str(path),
            device=device,
            device_index=settings.device_index if device == "cuda" else 0,
            compute_type=settings.compute_type,
            inter_threads=workers,
            intra_threads=1 if device == "cpu" else 0,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            f"the model {path} cannot be loaded on {device}: {reason}; convert it again, set "
            f"{PREFIX}THINKER_CT2_MODEL_PATH to another folder or {PREFIX}THINKER_CT2_COMPUTE_TYPE to `auto`"
        ) from error
    ctranslate2.set_random_seed(settings.seed % 2**32)
    generator.generate_batch([chat.tokens(Prompt("", "Hi"))], max_length=1, include_prompt_in_result=False)
    return Loaded(generator, chat, device, str(generator.compute_type), workers, batch)


def _device(settings: ThinkerSettings, ctranslate2: Any) -> str:
    gpus = ctranslate2.get_cuda_device_count()
    if settings.device == "cuda" and settings.device_index >= gpus:
        raise ConfigurationError(
            f"{PREFIX}THINKER_CT2_DEVICE=cuda, but there is no GPU {settings.device_index} "
            f"({gpus} found); use `auto` or `cpu`"
        )
    return settings.device if settings.device != "auto" else ("cuda" if gpus else "cpu")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
