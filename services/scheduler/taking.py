"""Which items of its inbox a persona's next thought takes up [A5, A9]. Pure: clocks are given."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time

from libs.contracts.work import TakenItem
from services.scheduler.inbox import Held
from services.scheduler.inner_state import threshold
from services.scheduler.ledger import PersonaLedger

EVERYTHING = -1.0
"""Below every priority, in hundredths."""


class Takes:
    """Takes items up. Under `fixed` a thought takes whatever is best; else what the persona engages with."""

    def __init__(
        self,
        *,
        adaptive: bool,
        answers: Callable[[str], list[str]] = lambda post_id: [],
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
    ) -> None:
        self.least = EVERYTHING
        """Effective priority, in hundredths, below which items wait while the system is under load [A13]."""

        self._adaptive = adaptive
        self._answers = answers
        self._clock = clock
        self._wall = wall

    def of(self, entry: PersonaLedger) -> list[TakenItem]:
        """Return the items that a persona's next thought takes up, best first, and mark them."""
        if entry.inbox is None:
            return []
        entry.inbox.put_all_back()
        held = entry.inbox.best(self._clock(), self.above(entry))
        entry.inbox.take_up(one.sequence for one in held)
        return [self._taken(one) for one in held]

    def has_any(self, entry: PersonaLedger) -> bool:
        """Whether a thought of the persona would take anything up now."""
        if not entry.inbox:
            return False
        return bool(entry.inbox.best(self._clock(), self.above(entry), most=1))

    def above(self, entry: PersonaLedger) -> float:
        """Return the effective priority, in hundredths, above which items are taken up now."""
        if not self._adaptive or entry.life is None or entry.inbox is None:
            return EVERYTHING
        state, now = entry.life.state, self._wall()
        return max(threshold(state.mood(len(entry.inbox), now), state.energy_at(now)), self.least)

    def _taken(self, held: Held) -> TakenItem:
        item = held.item
        return TakenItem(
            held.sequence,
            item.id,
            item.domain,
            item.source_id,
            item.content,
            item.timestamp,
            item.post_id,
            held.attempts,
            held.may_answer,
            self._answers(item.post_id) if item.post_id is not None else [],
        )
