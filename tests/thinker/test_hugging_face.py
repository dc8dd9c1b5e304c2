"""Answers of a batch are those of Hugging Face's own model over the same weights, token for token.

Only where torch is installed (`conftest.py` leaves this file out elsewhere): nothing else here needs it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from libs.models.architecture import read_architecture
from libs.models.convert import convert
from tests.support import repositories
from tests.support.hugging_face import generated
from tests.thinker.models import backend_of
from tests.thinker.test_ct2 import prompts_of

TOKENS = 16


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
        expected = generated(source, [loaded.chat.ids(prompt) for prompt in prompts], TOKENS)
        assert [answer.token_ids for answer in answers] == expected
        assert len({tuple(ids) for ids in expected}) > (1 if family == "qwen3" else 32)
