"""The seam between the thinker and a model."""

from __future__ import annotations

from typing import Protocol

from libs.cognition.compose import Answer
from services.thinker.prompt import Prompt


class Backend(Protocol):
    """Answers prompts, side by side or in batches as suits it.

    A prompt that cannot be answered gets an `Answer` with the error, never an exception.
    """

    description: str
    """What thinks, and why it was chosen, in one sentence."""

    model: str | None
    """Name of the model, as events show it."""

    capacity: int
    """Prompts that may usefully be under way at once."""

    immediate: bool
    """Whether it answers without waiting for anything, so that prompts need not be asked side by side."""

    async def answer(self, prompt: Prompt) -> Answer:
        """Answer one prompt."""

    async def close(self) -> None:
        """Let go of the model."""
