"""What is seen of a simulated day, and what must hold of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from bench.swarms import percentile
from libs.contracts.accounts import CreditEvent, Credits
from libs.contracts.inbox import Outcome
from libs.contracts.journal import ShardRecord, ThoughtEntry
from services.scheduler.priority import URGENT

CLASSES = ("urgent", "high", "middle", "low", "posts")
"""By base priority in hundredths: above 80, above 50, above 30, the others; a post's copies by themselves."""

_GONE = {Outcome.HANDLED: "handled", Outcome.ASIDE: "set aside"}
_NOTHING = Credits(0, 0)


def class_of(base: int, posted: bool) -> str:
    """Return the class of a base priority in hundredths."""
    if posted:
        return CLASSES[4]
    return CLASSES[0 if base > URGENT else 1 if base > 50 else 2 if base > 30 else 3]


class Minute:
    """One minute of the day."""

    def __init__(self) -> None:
        self.tokens = 0
        self.thoughts = 0
        self.fallbacks = 0
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.energy: list[float] = []
        """Quantiles: least, a twentieth, a quarter, the median."""

        self.mood: Counter[str] = Counter()
        self.resting = self.paused = self.held = self.ready = 0
        self.load = 1.0


class Record:
    """Follows items from their arrival to their end, and credits from reservation to settlement."""

    def __init__(self) -> None:
        self.minutes: list[Minute] = [Minute()]
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.ends: dict[int, str] = {}
        """How each item ended, by its sequence."""

        self.sent = 0
        self.twice: list[int] = []
        """Items that ended a second time: must stay empty."""

        self.by_persona: Counter[str] = Counter()
        """Tokens."""

        self.tokens_at: list[tuple[float, str, int]] = []
        self.pauses = self.resumes = 0
        self.credits = CreditBook()
        self.posted: set[int] = set()
        """Sequences of copies of posts."""

        self._came: dict[int, tuple[str, float]] = {}

    def came(self, sequence: int, base: int, at: float) -> None:
        """Note an item that came into an inbox."""
        self._came[sequence] = class_of(base, sequence in self.posted), at

    def stored(self, thought: ThoughtEntry, at: float) -> None:
        """Note a thought that is stored at a wall time in seconds."""
        minute, effort = self.minutes[-1], thought.effort
        minute.thoughts += 1
        if effort is None:
            return
        minute.fallbacks += not effort.by_model
        minute.tokens += effort.tokens
        self.by_persona[thought.persona_id] += effort.tokens
        if effort.tokens:
            self.tokens_at.append((at, thought.persona_id, effort.tokens))
        for item in effort.items:
            if item.outcome in _GONE:
                self._ended(item.sequence, _GONE[item.outcome])
                kind, came = self._came[item.sequence]
                self.waits[kind].append(at - came)
                minute.waits[kind].append(at - came)

    def journaled(self, record: ShardRecord) -> None:
        """Note a record of any shard."""
        for sequence in record.dropped:
            self._ended(sequence, "dropped")
        self.pauses += len(record.pauses)
        self.resumes += len(record.resumed)
        for change in record.credits:
            self.credits.note(change.event, change.account, change.persona_id, change.thought, change.window,
                              change.cost)  # fmt: skip

    def _ended(self, sequence: int, how: str) -> None:
        if sequence in self.ends:
            self.twice.append(sequence)
        self.ends[sequence] = how

    def wait_table(self) -> dict[str, dict[str, Any]]:
        """Return waits by class: how many, p50, p95, p99 and the longest, in seconds."""
        return {
            kind: {"items": len(waits)}
            | {f"p{p}": round(percentile(waits, p / 100), 2) for p in (50, 95, 99)}
            | {"longest": round(max(waits), 2)}
            for kind in CLASSES
            if (waits := self.waits[kind])
        }


class CreditBook:
    """Keeps the accounts a second time, from the journal alone: what was reserved, and what came of it."""

    def __init__(self) -> None:
        self.reserved: dict[tuple[str, str, int], tuple[int, Credits]] = {}
        """What is reserved and not settled, by account, persona and thought; with its window."""

        self.spent: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
        """Tokens and ms by account and window."""

        self.beyond: dict[tuple[str, int], list[list[int]]] = defaultdict(list)
        """By how much each thought has cost more than its reservation."""

        self.repeated = 0
        """Settlements without a reservation: of thoughts that were settled before, in a minute long over."""

    def note(
        self, event: CreditEvent, account: str, persona_id: str, thought: int, window: int, cost: Credits
    ) -> None:
        """Fold a change."""
        key = account, persona_id, thought
        if event is CreditEvent.RESERVED:
            self.reserved[key] = window, cost
            return
        at, expected = self.reserved.pop(key, (window, _NOTHING))
        if event is CreditEvent.SETTLED:
            if expected == _NOTHING:
                self.repeated += 1
                return
            spent = self.spent[account, at]
            spent[0] += cost.tokens
            spent[1] += cost.cpu_ms
            over = [max(cost.tokens - expected.tokens, 0), max(cost.cpu_ms - expected.cpu_ms, 0)]
            self.beyond[account, at].append(over)

    def overspent(self, limits: dict[str, Credits], alone: set[str]) -> dict[str, tuple[int, int]]:
        """Return by account a minute in which more was spent than its limit and the errors of estimate.

        Those errors are what thoughts cost more than was reserved: all of them in a tree, in which several
        are thought at once; the greatest of a persona `alone`. Nobody is to be in it.
        """
        found: dict[str, tuple[int, int]] = {}
        for (account, window), spent in self.spent.items():
            errors = self.beyond[account, window]
            limit = limits[account]
            for kind, most in enumerate((limit.tokens, limit.cpu_ms)):
                some = [error[kind] for error in errors]
                allowed = max(some, default=0) if account in alone else sum(some)
                if spent[kind] > most + allowed:
                    found[account] = (window, spent[kind] - most - allowed)
        return found
