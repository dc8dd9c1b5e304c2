"""The tiny model says gibberish, but never nothing: with it every thought of a swarm is a model's."""

from __future__ import annotations

import asyncio
from pathlib import Path

from libs.models.tiny import build
from services.thinker.prompt import Prompt
from tests.thinker.models import backend_of, sentence


async def test_each_token_that_it_says_is_text_to_read(tmp_path: Path) -> None:
    """Of a single token an answer is blank soonest, and at this temperature it says anything it can."""
    build(tmp_path / "tiny")
    prompts = [Prompt("s", sentence(1 + n % 40, n)) for n in range(600)]
    settings = {"MAX_TOKENS": "1", "TEMPERATURE": "2", "CT2_COMPUTE_TYPE": "int8"}
    async with backend_of(tmp_path / "tiny", **settings) as (backend, _):
        answers = await asyncio.gather(*(backend.answer(prompt) for prompt in prompts))
    said = [answer.text or "" for answer in answers]
    assert [text for text in said if not text.strip() or not text.isprintable() or "\ufffd" in text] == []
    assert all(answer.failure is None for answer in answers)
    assert len(set(said)) > 50, "it has more than a few to say"
