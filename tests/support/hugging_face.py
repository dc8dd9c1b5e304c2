"""Hugging Face's own model over the same weights. Only where torch is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def generated(folder: Path, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """So many tokens at most of its answer to each prompt alone, greedily, without the one that ends it."""
    import torch
    from transformers import AutoModelForCausalLM

    loader: Any = AutoModelForCausalLM
    model = loader.from_pretrained(str(folder), dtype=torch.float32).eval()
    said = []
    for ids in prompts:
        asked = torch.tensor([ids])
        with torch.inference_mode():
            found = model.generate(
                input_ids=asked,
                attention_mask=torch.ones_like(asked),
                max_new_tokens=tokens,
                min_new_tokens=1,
                do_sample=False,
            )
        told = found[0][len(ids) :].tolist()
        said.append(told[:-1] if told[-1] == model.generation_config.eos_token_id else told)
    return said
