"""The forward pass of a Qwen2, Qwen3 or Llama decoder in numpy: what a conversion is compared with.

Written from the papers' formulas and independent of the conversion: RMSNorm (Zhang and Sennrich 2019),
rotary positions (Su et al. 2021) with Llama 3.1's scaling, grouped queries (Ainslie et al. 2023), SwiGLU
(Shazeer 2020). Reads one layer's weights at a time. Float32 throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from libs.models.architecture import Architecture, Rope
from libs.models.source import Weights
from libs.models.spec import EMBEDDINGS, LAST_NORM, layer_prefix, projection_name

Floats = NDArray[np.float32]
Read = Callable[[str], Floats]

_ROWS = 16_384
"""Rows of the vocabulary that are projected at once."""


def rotary_frequencies(rope: Rope, head_dim: int) -> Floats:
    """Return the angle by which each pair of dimensions turns from one position to the next, in radians."""
    frequencies = 1.0 / rope.theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if rope.kind == "linear":
        frequencies /= rope.factor
    elif rope.kind == "llama3":
        frequencies = _llama3(frequencies, rope)
    return frequencies.astype(np.float32)


def _llama3(frequencies: NDArray[np.float64], rope: Rope) -> NDArray[np.float64]:
    """Long waves are stretched by the factor, short ones kept, those between blended (Llama 3.1)."""
    low, high, window = rope.low_frequency, rope.high_frequency, rope.original_window
    assert low is not None
    assert high is not None
    assert window is not None
    turns = window * frequencies / (2 * math.pi)
    blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
    stretched: NDArray[np.float64] = (1 - blend) * frequencies / rope.factor + blend * frequencies
    return stretched


class Reference:
    """A decoder over the source's weights. `read` returns a tensor in float32, by its Hugging Face name."""

    def __init__(self, architecture: Architecture, weights: Weights, read: Read) -> None:
        self._of = architecture
        self._weights = weights
        self._read = read

    def logits(
        self, ids: Sequence[int], positions: Sequence[int], step: Callable[[int], None] = lambda _: None
    ) -> Floats:
        """Return the logits at some positions of a text, shape `(positions, vocabulary)`.

        `step` is told after each layer how many are done.
        """
        state = self._read_rows(ids)
        turns = np.outer(
            np.arange(len(ids), dtype=np.float32), rotary_frequencies(self._of.rope, self._of.head_dim)
        )
        cosines, sines = np.cos(turns), np.sin(turns)
        for index in range(self._of.layers):
            prefix = layer_prefix(index)
            state = state + self._attention(prefix, state, cosines, sines)
            state = state + self._feed_forward(prefix, state)
            step(index + 1)
        return self._project(self._norm(LAST_NORM, state[list(positions)]))

    def _read_rows(self, ids: Sequence[int]) -> Floats:
        return np.asarray(self._read(EMBEDDINGS)[list(ids)])

    def _attention(self, prefix: str, state: Floats, cosines: Floats, sines: Floats) -> Floats:
        of, name = self._of, f"{prefix}self_attn."
        x = self._norm(f"{prefix}input_layernorm.weight", state)
        queries = self._heads(self._linear(f"{name}q_proj", x), of.heads)
        keys = self._heads(self._linear(f"{name}k_proj", x), of.kv_heads)
        values = self._heads(self._linear(f"{name}v_proj", x), of.kv_heads)
        if of.normalises_heads:
            queries = self._norm(f"{name}q_norm.weight", queries)
            keys = self._norm(f"{name}k_norm.weight", keys)
        queries, keys = _turn(queries, cosines, sines), _turn(keys, cosines, sines)
        mixed = np.empty((len(state), of.heads, of.head_dim), np.float32)
        later = np.triu(np.ones((len(state), len(state)), bool), 1)
        for head in range(of.heads):
            shared = head * of.kv_heads // of.heads
            scores = queries[head] @ keys[shared].T / np.float32(math.sqrt(of.head_dim))
            scores[later] = -np.inf
            mixed[:, head] = _softmax(scores) @ values[shared]
        return self._linear(f"{name}o_proj", mixed.reshape(len(state), -1))

    def _feed_forward(self, prefix: str, state: Floats) -> Floats:
        x = self._norm(f"{prefix}post_attention_layernorm.weight", state)
        gate = self._linear(f"{prefix}mlp.gate_proj", x)
        with np.errstate(over="ignore"):  # exp(-x) of a very negative x: the quotient is 0, as it should be
            gate = gate / (1 + np.exp(-gate))
        return self._linear(f"{prefix}mlp.down_proj", gate * self._linear(f"{prefix}mlp.up_proj", x))

    def _linear(self, name: str, x: Floats) -> Floats:
        out = x @ self._read(f"{name}.weight").T
        if f"{name}.bias" in self._weights:
            out += self._read(f"{name}.bias")
        return np.asarray(out, np.float32)

    def _norm(self, name: str, x: Floats) -> Floats:
        mean = np.mean(x * x, axis=-1, keepdims=True)
        return np.asarray(x / np.sqrt(mean + np.float32(self._of.epsilon)) * self._read(name), np.float32)

    def _heads(self, x: Floats, heads: int) -> Floats:
        return x.reshape(len(x), heads, self._of.head_dim).swapaxes(0, 1)

    def _project(self, state: Floats) -> Floats:
        matrix = self._read(projection_name(self._of, self._weights))
        parts = [state @ matrix[row : row + _ROWS].T for row in range(0, len(matrix), _ROWS)]
        return np.concatenate(parts, axis=1)


def _turn(x: Floats, cosines: Floats, sines: Floats) -> Floats:
    """Turn each pair of dimensions `(i, i + half)` by its angle at its position."""
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)


def _softmax(scores: Floats) -> Floats:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), np.float32)
