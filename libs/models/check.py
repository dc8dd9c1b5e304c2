"""Comparing a conversion's logits with those of its source, on a text long enough for faults of position.

What is compared: the stored weights, computed in float32 by CTranslate2, against the source's weights,
rounded as they are stored, through the numpy forward. Rounding is then no part of the difference, so one
strict bound serves every compute type: what is left is the order of float32 additions.

Weights in float32 take 4 bytes each. Where an int8 model's do not fit into memory, it is computed in int8
instead; its activations are then rounded, too, and the bound is `LOOSE`, on the root of the mean square.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.models.architecture import Architecture
from libs.models.errors import ConversionFault
from libs.models.logits import converted_logits
from libs.models.manifest import CheckResult
from libs.models.reference import Reference
from libs.models.source import Safetensors
from libs.models.variables import from_float32, to_float32

TOKENS = 480
"""Length of the text: faults of rotary scaling begin to show at a few hundred tokens."""

POSITIONS = 48
STRICT = 0.01
"""The largest difference of any logit, in standard deviations of the reference's logits."""

LOOSE = 0.3
"""The root mean square of the differences, in the same unit, where activations are rounded to int8: 0.1 with
random weights of 24 layers, 1.4 for logits that have nothing to do with each other. Gross faults only."""

_SEED = 20_240_719


def source_logits(
    source: Path, architecture: Architecture, compute_type: str, step: Callable[[int], None] = lambda _: None
) -> NDArray[np.float32]:
    """Return the source's logits at the compared positions, its weights rounded as they are stored.

    `step` is told how many layers are done.
    """
    weights = Safetensors(source)

    def read(name: str) -> NDArray[np.float32]:
        return as_stored(weights[name].float32(), compute_type)

    ids = sample(architecture.vocabulary, architecture.window)
    return Reference(architecture, weights, read).logits(ids, positions(len(ids)), step)


def check(
    folder: Path, expected: NDArray[np.float32], ids: list[int], compute_type: str, *, strict: bool = True
) -> CheckResult:
    """Compare a converted folder with the source's logits at `positions`. Raises `ConversionFault`.

    `strict` computes in float32, otherwise in int8.
    """
    computed_in = "float32" if strict else "int8"
    found = converted_logits(folder, ids, positions(len(ids)), computed_in)
    result = compare(found, expected, len(ids), computed_in, strict)
    measured = result.largest if strict else result.root_mean_square
    if not measured <= result.bound:  # so that no-number is a fault, too
        raise ConversionFault(
            f"the converted model is not its source: over {len(ids)} tokens its logits differ by up to "
            f"{result.largest:.2g} standard deviations ({result.root_mean_square:.2g} in the mean; "
            f"{result.bound:g} {result.bound_on} is allowed). It was not kept; please report the model's name"
        )
    return result


def positions(length: int) -> list[int]:
    """Return the compared positions of a text: some from everywhere, the last among them."""
    count = min(POSITIONS, length)
    spread: list[int] = np.linspace(length // count - 1, length - 1, count, dtype=int).tolist()
    return spread


def sample(vocabulary: int, window: int) -> list[int]:
    """Return the ids of a text that is the same each time, as long as the window allows."""
    ids: list[int] = np.random.default_rng(_SEED).integers(0, vocabulary, min(TOKENS, window)).tolist()
    return ids


def as_stored(values: NDArray[np.float32], compute_type: str) -> NDArray[np.float32]:
    """Return weights rounded as a compute type stores them: int8 by rows, each by its largest value."""
    if compute_type.startswith("int8") and values.ndim == 2:
        largest = np.abs(values).max(axis=1)
        largest[largest == 0] = 127.0
        scale = (127.0 / largest)[:, None].astype(np.float32)
        return np.asarray(np.rint(values * scale) / scale, np.float32)
    kept = compute_type.removeprefix("int8").removeprefix("_")
    return to_float32(from_float32(values, kept), kept) if kept in ("float16", "bfloat16") else values


def compare(
    found: NDArray[np.float32], expected: NDArray[np.float32], tokens: int, computed_in: str, strict: bool
) -> CheckResult:
    """Return how far two sets of logits are apart."""
    unit = float(expected.std()) or 1.0
    apart = np.abs(found - expected)
    return CheckResult(
        tokens=tokens,
        positions=len(expected),
        computed_in=computed_in,
        largest=float(apart.max()) / unit,
        root_mean_square=float(np.sqrt(np.mean(apart * apart))) / unit,
        bound=STRICT if strict else LOOSE,
        bound_on="at most" if strict else "in the mean",
        same_first_choice=float(np.mean(found.argmax(axis=1) == expected.argmax(axis=1))),
    )
