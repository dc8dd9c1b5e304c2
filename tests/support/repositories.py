"""Small models in Hugging Face's layout, with random weights: config, tokenizer, safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from libs.models.architecture import FAMILIES, read_architecture
from libs.models.tiny import RandomWeights, tokenizer
from libs.models.variables import from_float32

LLAMA3_ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}  # fmt: skip
LICENCE = "apache-2.0"

_SHAPES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "qwen3": {"head_dim": 32},
    "llama": {"rope_theta": 500_000.0, "rope_scaling": LLAMA3_ROPE, "tie_word_embeddings": False},
}


def config(family: str, **changes: Any) -> dict[str, Any]:
    """The `config.json` of a small model; `changes` win."""
    return {
        "architectures": [FAMILIES.get(family, "OtherForCausalLM")],
        "model_type": family,
        "hidden_act": "silu",
        "hidden_size": 64,
        "intermediate_size": 128,
        "max_position_embeddings": 2048,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": True,
        "vocab_size": 400,
        "torch_dtype": "float32",
    } | _SHAPES.get(family, {}) | changes  # fmt: skip


def write(folder: Path, family: str, *, dtype: str = "float32", shards: int = 1, **changes: Any) -> Path:
    """Write a model and return its folder. `dtype` is that of its weights, in so many files."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = config(family, torch_dtype=dtype, **changes)
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    (folder / "README.md").write_text(f"---\nlicense: {LICENCE}\n---\n# A model\n")
    (folder / "LICENSE").write_text("Do as you like.\n")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle, never to be read")
    tokenizer(373).save_pretrained(str(folder))
    architecture = read_architecture(settings)
    weights = RandomWeights(architecture, seed=7, biases=family == "qwen2")
    names = weights.names()
    parts = [names[part::shards] for part in range(shards)]
    files = [f"model-{n + 1:05}-of-{shards:05}.safetensors" for n in range(shards)]
    if shards == 1:
        files = ["model.safetensors"]
    else:
        index = {name: file for file, part in zip(files, parts, strict=True) for name in part}
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": index})
        )
    for file, part in zip(files, parts, strict=True):
        save_tensors(folder / file, {name: weights[name].array() for name in part}, dtype)
    return folder


def save_tensors(path: Path, tensors: dict[str, Any], dtype: str) -> None:
    """Write float32 arrays as safetensors of a type."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, array in tensors.items():
        data = np.ascontiguousarray(from_float32(array, dtype)).tobytes()
        header[name] = {
            "dtype": {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype],
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + body)
