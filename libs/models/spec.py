"""The CTranslate2 specification of a Qwen2, Qwen3 or Llama decoder: which weight goes where.

The same as the official converter's, so that the files are the same byte for byte, with one exception: of
`rope_type: llama3` the official one drops `factor` and `original_max_position_embeddings`, which is silently
wrong beyond a few hundred tokens. Here both are set.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ctranslate2.specs import attention_spec, common_spec, transformer_spec

from libs.models.architecture import Architecture, Rope
from libs.models.source import Weights
from libs.models.variables import Weight, stacked

EMBEDDINGS = "model.embed_tokens.weight"
PROJECTION = "lm_head.weight"
LAST_NORM = "model.norm.weight"

_SCALING = attention_spec.RotaryScalingType
_SCALINGS = {"default": None, "linear": _SCALING.Linear, "llama3": _SCALING.Llama3}


def layer_prefix(index: int) -> str:
    """Return how the names of a layer's tensors begin."""
    return f"model.layers.{index}."


def build_spec(architecture: Architecture, weights: Weights) -> Any:
    """Return a decoder's specification with its weights, without vocabulary and token names.

    Raises `SourceError` for a tensor that is missing.
    """
    spec = _empty(architecture)
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = weights[EMBEDDINGS]
    decoder.projection.weight = weights[projection_name(architecture, weights)]
    decoder.layer_norm.gamma = weights[LAST_NORM]
    for index, layer in enumerate(decoder.layer):
        _fill(layer, architecture, weights, layer_prefix(index))
    spec.config.layer_norm_epsilon = architecture.epsilon
    return spec


def projection_name(architecture: Architecture, weights: Weights) -> str:
    """Return the tensor that turns the last state into logits."""
    return EMBEDDINGS if architecture.tied or PROJECTION not in weights else PROJECTION


def _empty(architecture: Architecture) -> Any:
    shared = architecture.kv_heads == architecture.heads
    qwen3 = architecture.normalises_heads
    plain = architecture.head_dim * architecture.heads == architecture.hidden and not qwen3
    rope = architecture.rope
    return transformer_spec.TransformerDecoderModelSpec.from_config(
        architecture.layers,
        architecture.heads,
        activation=common_spec.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=architecture.head_dim if qwen3 else 0,
        rotary_interleave=False,
        rotary_scaling_type=_SCALINGS[rope.kind],
        rotary_scaling_factor=rope.factor,
        rotary_base=rope.theta,
        original_max_position_embeddings=rope.original_window or 0,
        num_heads_kv=None if shared else architecture.kv_heads,
        head_dim=None if plain else architecture.head_dim,
        qk_norm=qwen3,
        quant_type=common_spec.Quantization.CT2,
    )


def _fill(layer: Any, architecture: Architecture, weights: Weights, prefix: str) -> None:
    attention, feed_forward = layer.self_attention, layer.ffn
    attention.layer_norm.gamma = weights[f"{prefix}input_layernorm.weight"]
    feed_forward.layer_norm.gamma = weights[f"{prefix}post_attention_layernorm.weight"]
    if architecture.normalises_heads:
        attention.q_norm.gamma = weights[f"{prefix}self_attn.q_norm.weight"]
        attention.k_norm.gamma = weights[f"{prefix}self_attn.k_norm.weight"]
    _linear(attention.linear[0], weights, *(f"{prefix}self_attn.{part}_proj" for part in "qkv"))
    _linear(attention.linear[1], weights, f"{prefix}self_attn.o_proj")
    _linear(feed_forward.linear_0, weights, f"{prefix}mlp.gate_proj")
    _linear(feed_forward.linear_0_noact, weights, f"{prefix}mlp.up_proj")
    _linear(feed_forward.linear_1, weights, f"{prefix}mlp.down_proj")
    _stretch(attention, architecture.rope)


def _linear(spec: Any, weights: Weights, *names: str) -> None:
    """Set one linear layer from those of `names`, stacked. Where some have a bias, the others get zeros."""
    parts = [weights[f"{name}.weight"] for name in names]
    spec.weight = stacked(parts)
    biases = [f"{name}.bias" for name in names]
    if any(bias in weights for bias in biases):
        dtype = next(weights[bias].dtype for bias in biases if bias in weights)
        spec.bias = stacked(
            [
                weights[bias] if bias in weights else _zeros(part.shape[0], dtype)
                for bias, part in zip(biases, parts, strict=True)
            ]
        )


def _zeros(size: int, dtype: str) -> Weight:
    kind = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}[dtype]
    return Weight([size], dtype, lambda: np.zeros(size, kind))


def _stretch(attention: Any, rope: Rope) -> None:
    if rope.kind != "llama3":
        return
    attention.rotary_low_freq_factor = np.float32(rope.low_frequency or 0)
    attention.rotary_high_freq_factor = np.float32(rope.high_frequency or 0)
    # The specification declares no factor for this type, but the engine reads it.
    attention.__dict__["rotary_scaling_factor"] = np.float32(rope.factor)
