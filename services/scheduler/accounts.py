"""The credit accounts of one shard [A16]. Pure; windows are whole minutes of UTC, by their number.

A thought reserves its expected cost before it is dispatched and settles its real cost afterwards, with the
account of its persona and with those of all its ancestors. Everything is keyed by persona and thought
number, so a repeated message changes nothing, in whatever order messages come.

What happens is a list of numbered changes, and the state is their fold: changes are taken for the journal,
and an owner that has restored a checkpoint applies those that follow it. An answer may go out only once its
change is stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from libs.contracts.accounts import AccountsCheckpoint, Credit, CreditChange, CreditEvent, Credits
from services.scheduler.account import NOTHING, Account, Window

WINDOW_S = 60

_WORDS = {Credit.TOKENS: "tokens", Credit.CPU_MS: "ms of thinking"}


def window_of(at: float) -> int:
    """Return the window of a wall time in seconds since the epoch; it ends `WINDOW_S` after its begin."""
    return int(at // WINDOW_S)


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why a reservation is refused: the credits of one account."""

    account: str
    credit: Credit
    limit: int
    committed: int
    """Spent or reserved in this window."""

    cost: int

    @property
    def for_good(self) -> bool:
        """Whether waiting does not help: the thought alone costs more than a whole window has."""
        return self.cost > self.limit

    def __str__(self) -> str:
        needs = f"the thought needs {self.cost} {_WORDS[self.credit]}"
        if self.for_good:
            return f"{needs}, more than the {self.limit} that {self.account} has in any minute"
        return f"{needs}; {self.account} has committed {self.committed} of its {self.limit} in this minute"


class Accounts:
    """What the personas of a shard, and their descendants anywhere, have spent and reserved.

    Two windows of an account are kept: the newest it has seen and the one before, for settlements and
    repeated messages that come after the minute's end. Never more is granted in a window than its limit;
    what thoughts cost beyond their reservations is the only excess.
    """

    def __init__(self) -> None:
        self.number = 0
        """Of the last change that is applied."""

        self._accounts: dict[str, Account] = {}
        self._changes: list[CreditChange] = []
        self._forgot = 0
        """The window that `forget` was last called for."""

    def __len__(self) -> int:
        return len(self._accounts)

    def reserve(
        self, account: str, limits: Credits, persona_id: str, thought: int, window: int, cost: Credits
    ) -> Shortage | None:
        """Set a thought's expected cost aside; return why that cannot be, None where it is granted.

        `window` is the one that the caller's clock is in. Asked again, the answer is the first one, and the
        cost that was granted stays. What costs nothing is always granted, and not kept.
        """
        held = self._accounts.get(account)
        if cost == NOTHING or (held is not None and held.knows(persona_id, thought, window)):
            return None
        short = _shortage(account, limits, self.committed(account, window), cost)
        if short is None:
            self._happened(CreditEvent.RESERVED, account, persona_id, thought, window, cost)
        elif held is not None and held.is_over(window):
            self._set_back(account, persona_id, thought, window)
        return short

    def settle(self, account: str, persona_id: str, thought: int, window: int, cost: Credits) -> None:
        """Replace a thought's reservation by what it has really cost.

        `window` is the one the reservation was made in. A thought without a reservation, lost or never seen,
        counts as spent in that window, unless the window is older than those that are kept.
        """
        held = self._accounts.get(account)
        kept = held.holding(persona_id, thought) if held is not None else None
        if kept is not None:
            self._happened(CreditEvent.SETTLED, account, persona_id, thought, kept.number, cost)
        elif cost != NOTHING and (held is None or held.counts(persona_id, thought, window)):
            self._happened(CreditEvent.SETTLED, account, persona_id, thought, window, cost)

    def release(self, account: str, persona_id: str, thought: int) -> None:
        """Give a reservation back: the thought will not be thought, or its number is dispatched anew.

        A copy of its reservation that comes afterwards reserves again, for that minute.
        """
        held = self._accounts.get(account)
        kept = held.holding(persona_id, thought) if held is not None else None
        if kept is not None:
            self._happened(CreditEvent.RELEASED, account, persona_id, thought, kept.number, NOTHING)

    def committed(self, account: str, window: int) -> Credits:
        """Return what is spent or reserved in a window."""
        held = self._accounts.get(account)
        return held.committed(window) if held is not None else NOTHING

    def share_left(self, account: str, limits: Credits, window: int) -> float:
        """Return which part of its credits an account has left in a window, 0 to 1, of the scarcer kind."""
        return share_left(limits, self.committed(account, window))

    def take_changes(self) -> list[CreditChange]:
        """Return the changes since the last call, to be journaled in this order."""
        taken, self._changes = self._changes, []
        return taken

    def put_back_changes(self, changes: list[CreditChange]) -> None:
        """Undo `take_changes`: they were not stored."""
        self._changes[:0] = changes

    def apply(self, change: CreditChange) -> None:
        """Fold a change of the journal; one that is applied already is passed over."""
        if change.number <= self.number:
            return
        self.number = change.number
        held = self._accounts.get(change.account)
        if held is None:
            held = self._accounts[change.account] = Account(Window(change.window))
        held.apply(change)

    def forget(self, window: int) -> None:
        """Let go of accounts in which nothing has happened since before the window before this one."""
        if window == self._forgot:
            return
        self._forgot = window
        self._accounts = {
            name: held for name, held in self._accounts.items() if held.newest.number >= window - 1
        }

    def dump(self, window: int) -> AccountsCheckpoint:
        """Return everything that still matters in a window, for a checkpoint."""
        return AccountsCheckpoint(
            number=self.number,
            windows=[
                kept.dump(name)
                for name, held in sorted(self._accounts.items())
                for kept in (held.before, held.newest)
                if kept is not None and kept.number >= window - 1
            ],
        )

    def restore(self, stored: AccountsCheckpoint) -> None:
        """Take the state of a checkpoint instead of one's own; changes after it are to be applied."""
        self.number = stored.number
        self._accounts = {}
        self._changes = []
        for one in stored.windows:  # of an account's two windows the older one comes first
            older = self._accounts.get(one.account)
            before = older.newest if older is not None else None
            self._accounts[one.account] = Account(Window.load(one), before)

    def _set_back(self, account: str, persona_id: str, thought: int, window: int) -> None:
        """Have the newest window be the one that the clock says now, though nothing is granted in it.

        Else an account that was spent when the clock was set back would be so until the clock is there again.
        """
        self._happened(CreditEvent.RESERVED, account, persona_id, thought, window, NOTHING)
        self._happened(CreditEvent.RELEASED, account, persona_id, thought, window, NOTHING)

    def _happened(
        self, event: CreditEvent, account: str, persona_id: str, thought: int, window: int, cost: Credits
    ) -> None:
        change = CreditChange(self.number + 1, event, account, persona_id, thought, window, cost)
        self._changes.append(change)
        self.apply(change)


def _shortage(account: str, limits: Credits, committed: Credits, cost: Credits) -> Shortage | None:
    """Return what stands in a reservation's way; a kind for which waiting does not help comes first."""
    found = [
        Shortage(account, credit, limit, used, needed)
        for credit, limit, used, needed in (
            (Credit.TOKENS, limits.tokens, committed.tokens, cost.tokens),
            (Credit.CPU_MS, limits.cpu_ms, committed.cpu_ms, cost.cpu_ms),
        )
        if needed and used + needed > limit
    ]
    return max(found, key=lambda short: short.for_good, default=None)


def share_left(limits: Credits, used: Credits) -> float:
    """Return which part of credits is left, 0 to 1, of the scarcer kind."""
    return min(_left(limits.tokens, used.tokens), _left(limits.cpu_ms, used.cpu_ms))


def _left(limit: int, used: int) -> float:
    return max(limit - used, 0) / limit if limit else 0.0
