"""Weights that are read when they are needed: a model is converted with a few of its tensors in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ctranslate2.specs import model_spec
from numpy.typing import NDArray

Array = NDArray[Any]

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Safetensors' names of the types that weights come in, and CTranslate2's."""

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def to_float32(array: Array, dtype: str) -> NDArray[np.float32]:
    """Return an array in float32. `dtype` says what it holds: bfloat16 is kept in uint16."""
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(array, np.float32)


def from_float32(array: Array, dtype: str) -> Array:
    """Return float32 values in another type, rounded to the nearest, ties to even, as torch rounds."""
    if dtype == "float32":
        return np.asarray(array)
    if dtype == "float16":
        return np.asarray(array, np.float16)
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


class Weight(model_spec.Variable):  # type: ignore[misc]
    """A variable of a CTranslate2 specification whose values are made by `load` each time they are asked for.

    `load` returns float32, float16, or bfloat16 as uint16; `dtype` says which.
    """

    def __init__(self, shape: Sequence[int], dtype: str, load: Callable[[], Array]) -> None:
        self._shape = list(shape)
        self._dtype = dtype
        self._load = load
        self._first: Any = None

    @property
    def shape(self) -> list[int]:
        """Its sizes."""
        return self._shape

    @property
    def dtype(self) -> str:
        """CTranslate2's name of its type."""
        return self._dtype

    def array(self) -> Array:
        """Return the values; bfloat16 as uint16."""
        return self._load().reshape(self._shape)

    def float32(self) -> NDArray[np.float32]:
        """Return the values in float32."""
        return to_float32(self.array(), self._dtype)

    def numpy(self) -> Array:
        """Return a copy that may be written to."""
        return np.array(self.array())

    def num_bytes(self) -> int:
        """Return how many bytes `to_bytes` has."""
        return int(np.prod(self._shape, dtype=np.int64)) * _BYTES[self._dtype]

    def to_bytes(self) -> bytes:
        """Return the values as they are stored."""
        return self.array().tobytes()

    def _to(self, dtype: str) -> Weight:
        return Weight(self._shape, dtype, lambda: from_float32(self.float32(), dtype))

    def _equal(self, other: Weight) -> bool:
        if self is other:
            return True
        alike = self._dtype == other._dtype and self._shape == other._shape
        return (
            alike and self._beginning() == other._beginning() and np.array_equal(self.array(), other.array())
        )

    def _beginning(self) -> Any:
        """Return the first value, kept, so that most comparisons read nothing."""
        if self._first is None:
            self._first = self.array().flat[0]
        return self._first


def stacked(weights: Sequence[Weight]) -> Weight:
    """Return weights put on top of each other. They must have one type."""
    if len(weights) == 1:
        return weights[0]
    shape = [sum(w.shape[0] for w in weights), *weights[0].shape[1:]]
    return Weight(shape, weights[0].dtype, lambda: np.concatenate([w.array() for w in weights]))
