"""One credit account: what was reserved and spent in the newest minute and in the one before it. Pure."""

from __future__ import annotations

from libs.contracts.accounts import AccountWindow, CreditChange, CreditEvent, Credits
from services.scheduler.numbers import Numbers

NOTHING = Credits(0, 0)


class Account:
    """The two windows of an account in which something is known of its thoughts."""

    __slots__ = ("before", "newest")

    def __init__(self, newest: Window, before: Window | None = None) -> None:
        self.newest = newest
        self.before = before
        """The window right before the newest one, if anything happened in it."""

    def committed(self, window: int) -> Credits:
        """Return what is spent or reserved in a window; reservations for older ones count in the newest."""
        newest = self.newest
        return Credits(newest.tokens, newest.cpu_ms) if window <= newest.number else NOTHING

    def holding(self, persona_id: str, thought: int) -> Window | None:
        """Return the window in which a thought's reservation is there, unsettled."""
        return next((kept for kept in self._kept() if (persona_id, thought) in kept.reserved), None)

    def knows(self, persona_id: str, thought: int, window: int = 0) -> bool:
        """Whether a thought was reserved or settled in a window that still matters in the given one."""
        return any(kept.number >= window - 1 and kept.knows(persona_id, thought) for kept in self._kept())

    def counts(self, persona_id: str, thought: int, window: int) -> bool:
        """Whether a thought without a reservation is news to a window that is still kept."""
        return not self.is_over(window) and not self.knows(persona_id, thought)

    def apply(self, change: CreditChange) -> None:
        """Fold a change; it names the window that it changes, so nothing depends on what was forgotten."""
        if change.event is CreditEvent.RESERVED:
            self._enter(change.window)
            self.newest.reserve(change.persona_id, change.thought, change.cost)
        elif self.is_over(change.window):
            return
        elif change.event is CreditEvent.SETTLED:
            self._window(change.window).settle(change.persona_id, change.thought, change.cost)
        else:
            self._window(change.window).release(change.persona_id, change.thought)

    def _kept(self) -> tuple[Window, ...]:
        return (self.newest,) if self.before is None else (self.newest, self.before)

    def is_over(self, window: int) -> bool:
        """Whether a window is older than those that are kept; the clock's own is where it was set back."""
        return window < self.newest.number - 1

    def _enter(self, window: int) -> None:
        """Make a window the newest one.

        Where the clock was set back, the newest one becomes the minute that the clock says now: nothing spent
        is forgotten, and credits come anew with the next minute.
        """
        if self.is_over(window):
            self.newest.number = window
            if self.before is not None:
                self.before.number = window - 1
        elif window > self.newest.number:
            self.before = self.newest if self.newest.number == window - 1 else None
            self.newest = Window(window)

    def _window(self, number: int) -> Window:
        """Return a window that is not over; one in which nothing has happened yet begins."""
        if number >= self.newest.number:
            self._enter(number)
            return self.newest
        if self.before is None:
            self.before = Window(number)
        return self.before


class Window:
    """One account in one minute: a number of whole minutes since the epoch."""

    __slots__ = ("cpu_ms", "number", "reserved", "settled", "spent", "tokens")

    def __init__(self, number: int) -> None:
        self.number = number
        self.spent = NOTHING
        """By thoughts that are settled."""

        self.tokens = 0
        """Spent or reserved; so is `cpu_ms`."""

        self.cpu_ms = 0
        self.reserved: dict[tuple[str, int], Credits] = {}
        self.settled: dict[str, Numbers] = {}

    def knows(self, persona_id: str, thought: int) -> bool:
        """Whether a thought is reserved or settled here."""
        return (persona_id, thought) in self.reserved or thought in self.settled.get(persona_id, ())

    def reserve(self, persona_id: str, thought: int, cost: Credits) -> None:
        """Set a thought's expected cost aside, instead of what was reserved for it before."""
        self.release(persona_id, thought)
        self.reserved[persona_id, thought] = cost
        self.tokens += cost.tokens
        self.cpu_ms += cost.cpu_ms

    def release(self, persona_id: str, thought: int) -> None:
        """Give a reservation back."""
        cost = self.reserved.pop((persona_id, thought), NOTHING)
        self.tokens -= cost.tokens
        self.cpu_ms -= cost.cpu_ms

    def settle(self, persona_id: str, thought: int, cost: Credits) -> None:
        """Count a thought's real cost once, instead of its reservation where there is one."""
        numbers = self.settled.setdefault(persona_id, Numbers())
        if thought in numbers:
            return
        numbers.add(thought)
        self.release(persona_id, thought)
        self.tokens += cost.tokens
        self.cpu_ms += cost.cpu_ms
        self.spent = Credits(self.spent.tokens + cost.tokens, self.spent.cpu_ms + cost.cpu_ms)

    def dump(self, account: str) -> AccountWindow:
        """Return it for a checkpoint."""
        return AccountWindow(
            account,
            self.number,
            self.spent,
            [(*place, self.reserved[place]) for place in sorted(self.reserved)],
            {persona_id: self.settled[persona_id].dump() for persona_id in sorted(self.settled)},
        )

    @classmethod
    def load(cls, stored: AccountWindow) -> Window:
        """Return the window that was dumped."""
        window = cls(stored.window)
        window.spent = stored.spent
        window.tokens, window.cpu_ms = stored.spent.tokens, stored.spent.cpu_ms
        window.settled = {persona_id: Numbers(runs) for persona_id, runs in stored.settled.items()}
        for persona_id, thought, cost in stored.reserved:
            window.reserve(persona_id, thought, cost)
        return window
