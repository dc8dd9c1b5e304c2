"""What a persona has done and how it fares: its inner state, what it has spent, what it waits for. Pure.

A fold of its thoughts. Times are wall times in seconds.
"""

from __future__ import annotations

from collections.abc import Callable

from libs.contracts.accounts import Credits, Settlement
from libs.contracts.journal import Effort, Pause, StoredLife
from libs.contracts.lives import Spent
from services.scheduler.account import NOTHING
from services.scheduler.accounts import window_of
from services.scheduler.inner_state import InnerState

RECENT_THOUGHTS = 8
"""Thoughts whose signatures are kept to tell those that repeat them [A19]."""


_RESPONSES_KEPT = 16


class Life:
    """The life of one persona; made when it first does more than declare fallbacks.

    Its idle clock [A17] goes by `clock`, see `Ledger.ran`, and stands while the persona waits for credits or
    thinks by fallback.
    """

    __slots__ = (
        "_clock",
        "_idle_as_of",
        "_idle_s",
        "_pause",
        "by_model",
        "cost",
        "cpu_ms",
        "failures",
        "minute",
        "minute_spent",
        "recent",
        "settlement",
        "state",
        "thoughts",
        "tokens",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self.state = InnerState()
        self.thoughts = 0
        """Thoughts that cost something; so are `tokens` and `cpu_ms` of its whole life."""

        self.tokens = 0
        self.cpu_ms = 0
        self.cost = NOTHING
        """What its last thought by a model has cost."""

        self.settlement: Settlement | None = None
        """What its newest thought has cost, for the accounts: a plain fallback nothing."""

        self.minute = 0
        """The minute of its newest spending, see `accounts.window_of`."""

        self.minute_spent = NOTHING
        self.failures = 0
        """Thoughts that failed, one after the other, up to now."""

        self.by_model = True
        """False where its last thought was by none."""

        self.recent: tuple[bytes, ...] = ()
        """Signatures of its newest thoughts by a model."""

        self._clock = clock
        self._idle_s, self._idle_as_of = 0.0, clock()
        self._pause: Pause | None = None

    @property
    def pause(self) -> Pause | None:
        """What it waits for, where it has no credits [A16]."""
        return self._pause

    @pause.setter
    def pause(self, pause: Pause | None) -> None:
        self._turn()
        self._pause = pause

    @property
    def may_idle(self) -> bool:
        """Whether its idle clock runs, while there is somebody to look at it."""
        return self.by_model and self._pause is None

    @property
    def idle_s(self) -> float:
        """Seconds without progress, by its idle clock."""
        return self._idle_s + max(self._clock() - self._idle_as_of, 0.0) if self.may_idle else self._idle_s

    def thought(self, number: int, at: float, effort: Effort) -> None:
        """Fold the n-th thought, which ended at `at`."""
        self._turn()
        items = len(effort.items)
        self.state.thought(at, effort.cpu_ms, items, effort.responded)
        self.failures = self.failures + 1 if effort.failed else 0
        cost = Credits(effort.tokens, effort.cpu_ms)
        self._spend(at, cost)
        self.settlement = Settlement(number, self.minute, cost)
        if effort.signature:
            self.recent = (*self.recent[1 - RECENT_THOUGHTS :], effort.signature)
        self.by_model = effort.by_model
        if effort.by_model and not effort.repeats:
            self._idle_s = 0.0

    def fell_back(self, number: int) -> None:
        """Fold the n-th thought, which was a plain declared fallback."""
        self._turn()
        self.settlement = Settlement(number, self.minute, NOTHING)
        self.by_model = False

    def spent_in(self, minute: int) -> Credits:
        """Return what its own thoughts have cost in a minute; of older ones than the newest, nothing."""
        return self.minute_spent if minute == self.minute else NOTHING

    def dump(self) -> StoredLife:
        """Return it for a checkpoint."""
        energy, attention, last_activity, *responses = self.state.dump()
        state = [energy, attention, last_activity, *responses[-_RESPONSES_KEPT:]]
        spent = Spent(self.thoughts, self.tokens, self.cpu_ms)
        return StoredLife(
            state,
            spent,
            self.failures,
            pause=self.pause,
            idle_s=self.idle_s,
            idle_as_of=self._clock(),
            by_model=self.by_model,
            signatures=list(self.recent),
            cost=_known(self.cost),
            minute=self.minute,
            minute_spent=_known(self.minute_spent),
            settlement=self.settlement,
        )

    @classmethod
    def load(cls, stored: StoredLife, clock: Callable[[], float]) -> Life:
        """Return the life that was dumped. Its page may be ahead of the head that tells the clock."""
        life = cls(clock)
        life._idle_s, life._idle_as_of = stored.idle_s, min(stored.idle_as_of, life._idle_as_of)
        life.by_model, life.recent = stored.by_model, tuple(stored.signatures)
        life.state = InnerState.load(tuple(stored.state))
        life.thoughts, life.tokens = stored.spent.thoughts, stored.spent.tokens
        life.cpu_ms = stored.spent.cpu_ms
        life.failures, life._pause = stored.failures, stored.pause
        life.cost, life.settlement = stored.cost or NOTHING, stored.settlement
        life.minute, life.minute_spent = stored.minute, stored.minute_spent or NOTHING
        return life

    def _turn(self) -> None:
        """Bring its idle clock up to now, before something sets, stops or starts it."""
        self._idle_s, self._idle_as_of = self.idle_s, self._clock()

    def _spend(self, at: float, cost: Credits) -> None:
        self.thoughts += 1
        self.tokens += cost.tokens
        self.cpu_ms += cost.cpu_ms
        if cost != NOTHING:
            self.cost = cost
        minute = window_of(at)
        held = self.spent_in(minute)
        self.minute, self.minute_spent = minute, Credits(held.tokens + cost.tokens, held.cpu_ms + cost.cpu_ms)


def _known(cost: Credits) -> Credits | None:
    return cost if cost != NOTHING else None
