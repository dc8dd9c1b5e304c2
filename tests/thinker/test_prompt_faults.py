"""A prompt that cannot be made is its own thought's failure, not that of the chunk it came in."""

from __future__ import annotations

import pytest
from msgspec import structs

from libs.cognition.compose import Answer
from services.thinker.budget import budget_of
from services.thinker.prompt import Prompt
from tests.thinker.reading import Reading
from tests.unit.make import item
from tests.unit.messages import events


class Choosy:
    """A model whose tokenizer does not take every text."""

    description = "choosy"
    model: str | None = "choosy"
    always: Answer | None = None
    capacity = 1
    budget = budget_of(2048, 16)

    def count(self, text: str) -> int:
        if "poison" in text:
            raise ValueError("a text that no tokenizer takes")
        return len(text) // 4

    async def answer(self, prompt: Prompt) -> Answer:
        return Answer(text="Calm.", model=self.model)

    async def close(self) -> None:
        pass


@pytest.mark.fact("3.11")
async def test_a_prompt_that_cannot_be_made_is_a_declared_fallback_with_the_error() -> None:
    thinking = Reading(Choosy()).thinking
    entry = await thinking.answer(structs.replace(item("a"), charter="poison"), 1)
    payload = events(entry)[0]["payload"]
    assert payload["source"] == "fallback"
    assert payload["error"] == "no prompt: ValueError: a text that no tokenizer takes"
    well = await thinking.answer(item("b"), 1)
    assert events(well)[0]["payload"]["source"] == "model"
