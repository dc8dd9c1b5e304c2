"""What a Hugging Face `config.json` says of a model that can be converted without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec import Struct

from libs.models.errors import NotCovered, SourceError

FAMILIES = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}
"""Model types that are converted here, and the class that `architectures` must name."""

COVERED = "Qwen2, Qwen3 and Llama (SmolLM2 is one)"
_FALLBACK_THETA = {"qwen2": 10_000.0, "qwen3": 1_000_000.0, "llama": 10_000.0}


class Rope(Struct, frozen=True, kw_only=True):
    """Rotary positions. `kind` is `default`, `linear` or `llama3`; the rest is null without a meaning."""

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_frequency: float | None = None
    high_frequency: float | None = None
    original_window: int | None = None
    """Tokens that the model was trained on before its window was stretched (llama3)."""


class Architecture(Struct, frozen=True, kw_only=True):
    """Sizes and kinds of a decoder."""

    family: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    """Whether the projection is the embedding."""

    epsilon: float
    rope: Rope
    window: int
    """Tokens of context, prompt and answer together."""

    @property
    def normalises_heads(self) -> bool:
        """Whether queries and keys are normalised head by head."""
        return self.family == "qwen3"

    @property
    def parameters(self) -> int:
        """Number of weights, biases left out."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        layer = attention + 3 * self.hidden * self.feed_forward + 2 * self.hidden
        embeddings = self.vocabulary * self.hidden
        return self.layers * layer + embeddings * (1 if self.tied else 2) + self.hidden


def read_config(folder: Path) -> dict[str, Any]:
    """Return the `config.json` of a model folder in Hugging Face's layout. Raises `SourceError`."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError:
        raise SourceError(
            f"{folder} has no config.json: it is not a model in Hugging Face's layout"
        ) from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{folder / 'config.json'} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise SourceError(f"{folder / 'config.json'} is not a JSON object")
    return config


def family_of(config: dict[str, Any]) -> str:
    """Return the model type, or what the config has in its place."""
    return str(config.get("model_type") or (config.get("architectures") or ["unknown"])[0])


def is_covered(config: dict[str, Any]) -> bool:
    """Whether the family is one that is converted here."""
    return FAMILIES.get(family_of(config)) in (config.get("architectures") or FAMILIES.values())


def read_architecture(config: dict[str, Any]) -> Architecture:
    """Return what a config says. Raises `NotCovered` or `SourceError`."""
    _refuse(config)
    try:
        return _architecture(config)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"config.json lacks {error} or has it in a wrong form") from error


def _refuse(config: dict[str, Any]) -> None:
    if not is_covered(config):
        raise NotCovered(
            f"models of the family {family_of(config)!r} cannot be converted. Covered: {COVERED}"
        )
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "unknown method")
        raise NotCovered(
            f"the model is quantised already ({method}). Pull the unquantised one: it is quantised here, "
            "see --compute-type"
        )
    if config.get("use_sliding_window"):
        raise NotCovered("models with a sliding window are not covered")
    if config.get("hidden_act", "silu") != "silu":
        raise NotCovered(f"the activation {config['hidden_act']!r} is not covered, only silu")


def _architecture(config: dict[str, Any]) -> Architecture:
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    architecture = Architecture(
        family=family_of(config),
        layers=int(config["num_hidden_layers"]),
        hidden=hidden,
        feed_forward=int(config["intermediate_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        epsilon=float(config["rms_norm_eps"]),
        rope=_rope(config),
        window=int(config["max_position_embeddings"]),
    )
    sizes = (architecture.layers, hidden, heads, architecture.kv_heads, architecture.vocabulary)
    if min(sizes) < 1 or heads % architecture.kv_heads or architecture.head_dim % 2:
        raise ValueError("sizes that fit each other")
    return architecture


def _rope(config: dict[str, Any]) -> Rope:
    """Read `rope_parameters` (transformers 5) or `rope_scaling` with `rope_theta` beside it (4)."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(rope.get("rope_theta") or config.get("rope_theta") or _FALLBACK_THETA[family_of(config)])
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    if kind == "default":
        return Rope(theta=theta)
    if kind == "linear":
        return Rope(theta=theta, kind=kind, factor=float(rope["factor"]))
    if kind == "llama3":
        return Rope(
            theta=theta,
            kind=kind,
            factor=float(rope["factor"]),
            low_frequency=float(rope["low_freq_factor"]),
            high_frequency=float(rope["high_freq_factor"]),
            original_window=int(rope["original_max_position_embeddings"]),
        )
    raise NotCovered(
        f"rotary positions of the type {kind!r} are not covered, only default, linear and llama3"
    )
