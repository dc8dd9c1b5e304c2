"""Thinking with nothing: every thought is the declared fallback [3.11]."""

from __future__ import annotations

from libs.cognition.compose import Answer
from services.thinker.prompt import Prompt


class Fallback:
    """Answers nothing, and says why: `error` is what each thought carries, null where that was chosen."""

    capacity = 4096
    budget = None

    def __init__(self, description: str, error: str | None) -> None:
        self.description = description
        self.model: str | None = None
        self.always: Answer | None = Answer(error=error, asked=False)

    def count(self, text: str) -> int:
        """Nothing reads it."""
        return 0

    async def answer(self, prompt: Prompt) -> Answer:
        """Declare the thought a fallback."""
        assert self.always is not None
        return self.always

    async def close(self) -> None:
        """Nothing to let go of."""
