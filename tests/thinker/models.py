"""A real, tiny model in float32, and prompts as personas have them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from libs.contracts.work import ContextLine, WorkItem
from libs.settings.cognition import PREFIX, ThinkerSettings, cognition_reader, read_cognition
from services.thinker.backends.ct2 import CTranslate2, Loaded, load
from tests.unit.make import item

WORDS = (
    "a", "persona", "observes", "its", "charter,", "one", "hypothesis,", "check", "of", "evidence;", "doubt",
)  # fmt: skip


@cache
def build_once(folder: Path) -> Path:
    """Make the model unless it is there: large enough that its answers depend on all of a prompt."""
    from libs.models.tiny import Shape, build

    build(folder, Shape(layers=3, hidden=128, feed_forward=192, heads=8, kv_heads=2), quantization=None)
    return folder


def thinker_settings(**settings: str) -> ThinkerSettings:
    """Settings for comparing answers: greedy, float32, short; others as given."""
    chosen = {"TEMPERATURE": "0", "MAX_TOKENS": "16", "CT2_COMPUTE_TYPE": "float32", "TIMEOUT_MS": "60000"}
    env = {f"{PREFIX}THINKER_{name}": value for name, value in (chosen | settings).items()}
    return read_cognition(cognition_reader(env)).thinker


@asynccontextmanager
async def backend_of(
    folder: Path, generator: Any = None, **settings: str
) -> AsyncIterator[tuple[CTranslate2, Loaded]]:
    """A loaded backend, where asked for with something around its generator."""
    chosen = thinker_settings(CT2_DEVICE="cpu", **settings)
    loaded = load(chosen, folder)
    used = replace(loaded, generator=generator(loaded.generator)) if generator is not None else loaded
    backend = CTranslate2(chosen, folder, used, "a test wants it")
    try:
        yield backend, loaded
    finally:
        await backend.close()


def sentence(count: int, seed: int) -> str:
    """So many words, the same each time."""
    chooser = random.Random(seed)
    return " ".join(chooser.choice(WORDS) for _ in range(count))


def mixed_items(count: int) -> list[WorkItem]:
    """Personas of very different charters and contexts, so of prompts of very different lengths."""
    chooser = random.Random(count)
    return [
        msgspec.structs.replace(
            item(f"p{number}", 1 + number % 8, context(chooser.randint(0, 5), number)),
            charter=sentence(chooser.randint(1, 40), number),
        )
        for number in range(count)
    ]


def context(lines: int, seed: int) -> list[ContextLine]:
    return [
        ContextLine("thought_generated", f"2026-01-02T03:04:{line:02}Z", sentence(6, 1000 * seed + line))
        for line in range(lines)
    ]
