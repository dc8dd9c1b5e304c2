"""What bench.thinker measures with: models of real shapes with random weights, prompts, the roofline."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from libs.models.tiny import Shape, build
from libs.settings.cognition import PREFIX, ThinkerSettings, cognition_reader, read_cognition
from services.thinker.backends.devices import cores
from services.thinker.prompt import SYSTEM, Prompt

SHAPES = {
    "tiny": Shape(vocabulary=1024),
    "54m": Shape(8, 512, 1920, 8, 2, 49_152),
    "0.5b": Shape(24, 896, 4864, 14, 2, 151_936),
    "1.5b": Shape(28, 1536, 8960, 12, 2, 151_936),
}
"""54m is small enough to measure on a CPU in a minute; the others are Qwen2.5's, embeddings tied."""

BANDWIDTH_TB_S = {"H200": 4.8, "H100": 3.35, "A100": 2.0, "L40S": 0.864, "4090": 1.008}
"""Memory bandwidth of GPUs by their data sheets."""

_BYTES = {"float32": 4, "int8": 1, "int16": 2}
_CACHE_BYTES = {"cpu": 4, "cuda": 2}
"""Of a key or value, where weights are no larger: a CPU computes in float32."""

_COPIED_BYTES = 64 * 2**20
_COPIES = 8
_WORDS = ("observes", "one", "hypothesis", "a", "check", "of", "evidence", "its", "charter", "doubt", "facts")
_FILE_TYPE = {"int8": "int8", "float32": None}


@dataclass(frozen=True)
class Setup:
    """One choice of model, device and work."""

    shape: str
    folder: Path
    device: str
    compute_type: str
    tokens: int
    """New tokens of each answer, exactly."""

    bandwidth: float | None
    """Bytes a second that the device's memory gives; none: unknown, and so no roofline."""

    extra: Mapping[str, str] = field(default_factory=dict)
    """Settings of the thinker beyond these, by their names without `THINKER_`."""

    def settings(self, **more: str) -> ThinkerSettings:
        """Return the thinker's settings, as its environment would give them. Nothing is ever late."""
        chosen = {
            "TEMPERATURE": "0",
            "MAX_TOKENS": str(self.tokens),
            "TIMEOUT_MS": "86400000",
            "CT2_DEVICE": self.device,
            "CT2_COMPUTE_TYPE": self.compute_type,
            "CONTEXT_WINDOW": "32768",
        }
        env = {f"{PREFIX}THINKER_{name}": value for name, value in (chosen | dict(self.extra) | more).items()}
        return read_cognition(cognition_reader(env)).thinker


def make_model(shape: str, folder: Path, compute_type: str) -> None:
    """Write a model of a shape. Files for a GPU are in float16 and become its compute type when loaded."""
    build(
        folder,
        SHAPES[shape],
        quantization=_FILE_TYPE.get(compute_type, "float16"),
        corpus=[SYSTEM, " " + " ".join(_WORDS)],
        pieces=1024,
    )


def prompts(count: int) -> list[Prompt]:
    """Prompts of mixed length, the same each time: 20 to 220 words behind the 85 of the system prompt."""
    chooser = random.Random(count)
    return [
        Prompt(
            SYSTEM, f"id: p{n} " + " ".join(chooser.choice(_WORDS) for _ in range(chooser.randint(20, 220)))
        )
        for n in range(count)
    ]


def roofline(setup: Setup, rows: float, length: float) -> float | None:
    """Return the most tokens a second that memory bandwidth allows to batches of `rows`.

    A step reads the weights once and the keys and values, which are stored for all heads, three times:
    t = (W + 3 B L k) / BW, k = 2 layers heads d_head bytes. `length` is L: tokens of a row, on average.
    """
    if setup.bandwidth is None:
        return None
    shape = SHAPES[setup.shape]
    kept = _BYTES.get(setup.compute_type, 2)
    weights = parameters(shape) * kept
    cache = 2 * shape.layers * shape.hidden * max(kept, _CACHE_BYTES[setup.device])
    return rows * setup.bandwidth / (weights + 3 * rows * length * cache)


def parameters(shape: Shape) -> int:
    """Return the number of weights, norms and biases left out."""
    head = shape.hidden // shape.heads
    attention = shape.hidden * head * (2 * shape.heads + 2 * shape.kv_heads)
    layer = attention + 3 * shape.hidden * shape.feed_forward
    return shape.layers * layer + (shape.vocabulary or 0) * shape.hidden


def bandwidth_of(device: str, given: float | None) -> float | None:
    """Return bytes a second of memory: as given in TB/s, by the GPU's name, or as measured on a CPU."""
    if given is not None:
        return given * 1e12
    if device == "cpu":
        return copying_speed()
    tool = shutil.which("nvidia-smi")
    if device != "cuda" or tool is None:
        return None
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    name = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return next((known * 1e12 for part, known in BANDWIDTH_TB_S.items() if part in name), None)


def copying_speed() -> float:
    """Return the bytes a second that all cores together read and write when they copy: the best of a few."""
    arrays = [np.ones(_COPIED_BYTES, np.uint8) for _ in range(cores())]
    targets = [np.empty_like(array) for array in arrays]

    def copy(number: int) -> None:
        np.copyto(targets[number], arrays[number])

    best = 0.0
    with ThreadPoolExecutor(len(arrays)) as pool:
        for _ in range(_COPIES):
            began = perf_counter()
            list(pool.map(copy, range(len(arrays))))
            best = max(best, 2 * _COPIED_BYTES * len(arrays) / (perf_counter() - began))
    return best


def find_device() -> str:
    """Return `cuda` where CTranslate2 sees a GPU, else `cpu`."""
    from services.thinker.backends.devices import load_cublas

    load_cublas()
    import ctranslate2

    return "cuda" if ctranslate2.get_cuda_device_count() else "cpu"


class Exactly:
    """A real generator that is told to say exactly as much as it may."""

    def __init__(self, generator: Any, tokens: int) -> None:
        self._generator = generator
        self._tokens = tokens

    def generate_batch(self, batch: list[list[str]], **options: Any) -> Any:
        """Generate with the least length raised to the most."""
        return self._generator.generate_batch(batch, **options | {"min_length": self._tokens})
