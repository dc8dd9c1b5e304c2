"""Answers of a batch are those of Hugging Face's own model over the same weights, token for token.

Only where torch is installed (`conftest.py` leaves this file out elsewhere): nothing else here needs it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from libs.models.architecture import read_architecture
from libs.models.convert import convert
from tests.support import repositories
from tests.thinker.models import backend_of
from tests.thinker.test_ct2 import prompts_of

TOKENS = 16


def hugging_face(folder: Path, prompts: list[list[int]]) -> list[list[int]]:
    """The tokens that `generate` says to each prompt alone, greedily, without the one that ends them."""
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
                max_new_tokens=TOKENS,
                min_new_tokens=1,
                do_sample=False,
            )
        told = found[0][len(ids) :].tolist()
        said.append(told[:-1] if told[-1] == model.generation_config.eos_token_id else told)
    return said


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
async def test_a_mixed_batch_of_64_says_what_hugging_face_says(family: str, tmp_path: Path) -> None:
    source = repositories.write(tmp_path / "source", family)
    converted = tmp_path / "converted"
    architecture = read_architecture(repositories.config(family))
    convert(source, architecture, converted, "float32", lambda _: None)
    settings = {"REPEAT_PENALTY": "1", "MAX_TOKENS": str(TOKENS), "CT2_LENGTH_STEP": "1"}
    async with backend_of(converted, **settings) as (backend, loaded):
        prompts = prompts_of(backend, 64)
        answers = await asyncio.gather(*(backend.answer(prompt) for prompt in prompts))
        expected = hugging_face(source, [loaded.chat.ids(prompt) for prompt in prompts])
        assert [answer.token_ids for answer in answers] == expected
        assert len({tuple(ids) for ids in expected}) > (1 if family == "qwen3" else 32)
