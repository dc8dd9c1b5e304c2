"""Failed thoughts in the log: each kind of failure at once, then how many more there were, not one by one."""

from __future__ import annotations

import asyncio

import structlog

from libs.cognition.compose import Answer
from libs.contracts.work import WorkItem

log = structlog.get_logger("thought")

AGAIN_S = 30.0
_KINDS = 64


class FailureLog:
    """Logs every thought for those who ask for `debug`, and failures so that they can be read."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._unsaid = 0

    def note(self, item: WorkItem, answer: Answer, wrong: str | None = None) -> None:
        """Take note of a thought; `wrong` is why its answer is not the decision that it was to be."""
        fields = {"persona": item.persona_id, "swarm": item.swarm_id, "thought_count": item.thought_count}
        error = answer.failure or wrong
        if error is None:
            log.debug("thought", model=answer.model, latency_ms=answer.latency_ms, **fields)
        elif not answer.asked:
            log.debug("thought_without_model", error=error, **fields)  # the cause was said when it began
        elif self._is_news(error):
            log.warning("thoughts_fail", error=error, unsaid=self._unsaid, **fields)
            self._unsaid = 0
        else:
            self._unsaid += 1

    def charter_trimmed(self, item: WorkItem, characters: int, window: int) -> None:
        """Take note of a charter that is longer than what the model sees at once."""
        if self._is_news(f"charter of {item.persona_id}"):
            log.warning(
                "charter_trimmed",
                persona=item.persona_id,
                characters=characters,
                window=window,
                cure="shorten the charter or use a model with a larger window",
            )

    def _is_news(self, error: str) -> bool:
        now = asyncio.get_running_loop().time()
        said = self._said.get(error)
        if said is not None and now - said < AGAIN_S:
            return False
        if len(self._said) >= _KINDS:
            self._said.clear()
        self._said[error] = now
        return True
