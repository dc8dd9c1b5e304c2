"""Thoughts that wait to be stored, and which of them one record takes. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from libs.contracts.journal import ThoughtEntry
from libs.contracts.limits import RECORD_BYTES
from libs.contracts.work import Settled
from services.scheduler.weights import weigh

_HEADROOM = 8 * 1024


@dataclass(slots=True)
class Submission:
    """Thoughts that came together; `settled` says how many were stored."""

    thoughts: list[ThoughtEntry]
    settled: asyncio.Future[Settled]

    def settle(self, stored: set[tuple[str, int]]) -> None:
        """Say how many are stored, of all that were meanwhile, by persona and thought number."""
        if not self.settled.done():
            kept = sum((t.persona_id, t.thought_count) in stored for t in self.thoughts)
            self.settled.set_result(Settled(stored=kept, stale=len(self.thoughts) - kept))


@dataclass(slots=True)
class Halt:
    """A run that is to end on a shard; `done` once it has."""

    run: int
    done: asyncio.Future[None]


def admitted(batch: Iterable[Submission], admits: Callable[[ThoughtEntry], bool]) -> list[ThoughtEntry]:
    """Return the thoughts that may be stored now, one a persona, as many as one record takes."""
    found: dict[str, ThoughtEntry] = {}
    weight = _HEADROOM
    for submission in batch:
        for thought in submission.thoughts:
            if thought.persona_id in found or not admits(thought):
                continue
            weight += weigh(thought)
            if found and weight > RECORD_BYTES:
                return list(found.values())
            found[thought.persona_id] = thought
    return list(found.values())
