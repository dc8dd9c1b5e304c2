"""What a persona has done and how it fares: its inner state, what it has spent, what it waits for. Pure.

A fold of its thoughts. Times are wall times in seconds.
"""

from __future__ import annotations

from collections import deque

from libs.contracts.accounts import Credits, Settlement
from libs.contracts.inbox import InboxItem
from libs.contracts.journal import Effort, Pause, StoredLife
from libs.contracts.lives import Spent
from services.scheduler.account import NOTHING
from services.scheduler.accounts import window_of
from services.scheduler.inner_state import InnerState

RECENT_THOUGHTS = 8
"""Thoughts whose signatures are kept to tell those that repeat them [A19]."""

RECENT_SOURCES = 8
"""Sources of inbox items that count as recent [A3]."""

_RESPONSES_KEPT = 16
_ITEMS_KEPT = 64


class Life:
    """The life of one persona; made when it first does more than declare fallbacks."""

    __slots__ = (
        "cost",
        "cpu_ms",
        "failures",
        "items",
        "minute",
        "minute_spent",
        "pause",
        "progress_at",
        "recent",
        "settlement",
        "sources",
        "state",
        "thoughts",
        "tokens",
    )

    def __init__(self, at: float) -> None:
        self.state = InnerState()
        self.thoughts = 0
        """Thoughts that cost something; so are `tokens` and `cpu_ms` of its whole life."""

        self.tokens = 0
        self.cpu_ms = 0
        self.cost = NOTHING
        """What its last thought by a model has cost."""

        self.settlement: Settlement | None = None
        """What the newest thought that cost something has cost, for the accounts."""

        self.minute = 0
        """The minute of its newest spending, see `accounts.window_of`."""

        self.minute_spent = NOTHING
        self.failures = 0
        """Thoughts that failed, one after the other, up to now."""

        self.progress_at = at
        """When it last made progress, moved on by the time in which nothing let it [A17]."""

        self.recent: tuple[bytes, ...] = ()
        """Signatures of its newest thoughts by a model."""

        self.sources: deque[str] = deque(maxlen=RECENT_SOURCES)
        self.items: deque[str] = deque(maxlen=_ITEMS_KEPT)
        """Ids of the newest items that came, to know those whose publish was repeated."""

        self.pause: Pause | None = None

    def thought(self, number: int, at: float, effort: Effort) -> None:
        """Fold the n-th thought, which ended at `at`."""
        items = len(effort.items)
        self.state.thought(at, effort.cpu_ms, items, effort.responded)
        self.failures = self.failures + 1 if effort.failed else 0
        cost = Credits(effort.tokens, effort.cpu_ms)
        self._spend(at, cost)
        self.settlement = Settlement(number, self.minute, cost)
        if effort.signature:
            self.recent = (*self.recent[1 - RECENT_THOUGHTS :], effort.signature)
        if effort.by_model and not effort.repeats:
            self.progress_at = max(self.progress_at, at)

    def spent_in(self, minute: int) -> Credits:
        """Return what its own thoughts have cost in a minute; of older ones than the newest, nothing."""
        return self.minute_spent if minute == self.minute else NOTHING

    def sent(self, item: InboxItem) -> None:
        """Note an item that came."""
        if item.source_id:
            self.sources.append(item.source_id)
        if item.id not in self.items:
            self.items.append(item.id)

    def is_news(self, item_id: str) -> bool:
        """Whether an item of this id has not come lately; what is news is none from then on."""
        if item_id in self.items:
            return False
        self.items.append(item_id)
        return True

    def dump(self) -> StoredLife:
        """Return it for a checkpoint; recent sources and signatures come back with what follows."""
        energy, attention, last_activity, *responses = self.state.dump()
        state = [energy, attention, last_activity, *responses[-_RESPONSES_KEPT:]]
        spent = Spent(self.thoughts, self.tokens, self.cpu_ms)
        return StoredLife(state, spent, self.failures, self.progress_at, self.pause)

    @classmethod
    def load(cls, stored: StoredLife) -> Life:
        """Return the life that was dumped."""
        life = cls(stored.progress_at)
        life.state = InnerState.load(tuple(stored.state))
        life.thoughts, life.tokens = stored.spent.thoughts, stored.spent.tokens
        life.cpu_ms = stored.spent.cpu_ms
        life.failures, life.pause = stored.failures, stored.pause
        return life

    def _spend(self, at: float, cost: Credits) -> None:
        self.thoughts += 1
        self.tokens += cost.tokens
        self.cpu_ms += cost.cpu_ms
        if cost != NOTHING:
            self.cost = cost
        minute = window_of(at)
        held = self.spent_in(minute)
        self.minute, self.minute_spent = minute, Credits(held.tokens + cost.tokens, held.cpu_ms + cost.cpu_ms)
