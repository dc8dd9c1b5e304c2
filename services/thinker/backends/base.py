"""The seam between the thinker and a model."""

from __future__ import annotations

from typing import Protocol

from libs.cognition.compose import Answer
from services.thinker.budget import Budget
from services.thinker.prompt import Prompt


class Backend(Protocol):
    """Answers prompts, side by side or in batches as suits it.

    A prompt that cannot be answered gets an `Answer` with the error, never an exception.
    """

    description: str
    """What thinks, and why it was chosen, in one sentence."""

    model: str | None
    """Name of the model, as events show it."""

    always: Answer | None
    """The answer to every prompt, where nothing thinks: no prompt needs to be made."""

    @property
    def capacity(self) -> int:
        """Prompts that may usefully be under way at once."""

    @property
    def budget(self) -> Budget | None:
        """What of the model's window is for what; none where nothing reads the prompt."""

    def count(self, text: str) -> int:
        """Return how many tokens a text takes, exactly or by an estimate."""

    async def answer(self, prompt: Prompt) -> Answer:
        """Answer one prompt."""

    async def close(self) -> None:
        """Let go of the model."""
