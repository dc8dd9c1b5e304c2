"""Credits: never more than the limit but for errors of estimate, whatever happens to messages [A16]."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from libs.contracts.accounts import AccountsCheckpoint, Credit, CreditChange, CreditEvent, Credits
from services.scheduler.accounts import Accounts, Shortage, window_of

LIMITS = Credits(10, 12)
COSTS = st.builds(Credits, st.integers(0, 6), st.integers(0, 6))
PLACES = st.tuples(st.sampled_from("ab"), st.integers(1, 4))
NOTHING = Credits(0, 0)
ROOT = "root"


def over_the_wire(changes: list[CreditChange]) -> list[CreditChange]:
    return msgspec.json.decode(msgspec.json.encode(changes), type=list[CreditChange])


@dataclass
class Known:
    """What must be known of one thought."""

    window: int
    estimate: Credits
    real: Credits | None = None

    @property
    def cost(self) -> Credits:
        return self.real if self.real is not None else self.estimate


@dataclass(frozen=True)
class Message:
    """A settlement as it travels: it names the window of its reservation."""

    place: tuple[str, int]
    window: int
    cost: Credits


class Model(RuleBasedStateMachine):
    """A root's account beside a flat table of thoughts. Messages repeat, come late and in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts = Accounts()
        self.now = 100
        self.known: dict[tuple[str, int], Known] = {}
        self.newest = 0
        self.sent: list[Message] = []
        self.journal: list[CreditChange] = []
        self.checkpoint: AccountsCheckpoint | None = None
        self.stored = (deepcopy(self.known), self.newest)

    def enter(self, window: int) -> None:
        self.newest = max(self.newest, window)
        self.known = {place: one for place, one in self.known.items() if one.window >= self.newest - 1}

    def used(self, window: int) -> Credits:
        costs = [one.cost for one in self.known.values() if one.window == window]
        return Credits(sum(c.tokens for c in costs), sum(c.cpu_ms for c in costs))

    @rule(minutes=st.sampled_from([1, 1, 2, 5]))
    def pass_time(self, minutes: int) -> None:
        self.now += minutes

    @rule(place=PLACES, cost=COSTS)
    def reserve(self, place: tuple[str, int], cost: Credits) -> None:
        """Also again, and anew after a release."""
        short = self.accounts.reserve(ROOT, LIMITS, *place, self.now, cost)
        one = self.known.get(place)
        if cost == NOTHING or (one is not None and one.window >= self.now - 1):
            assert short is None
            return
        used = self.used(self.now)
        fits = all(
            need == 0 or had + need <= limit
            for had, need, limit in (
                (used.tokens, cost.tokens, LIMITS.tokens),
                (used.cpu_ms, cost.cpu_ms, LIMITS.cpu_ms),
            )
        )
        assert (short is None) == fits
        if fits:
            self.enter(self.now)
            self.known[place] = Known(self.now, cost)

    @rule(place=PLACES, cost=COSTS, ago=st.integers(0, 3))
    def send_settlement(self, place: tuple[str, int], cost: Credits, ago: int) -> None:
        """Also of a thought whose reservation nobody has seen, or that was settled otherwise."""
        one = self.known.get(place)
        window = one.window if one is not None else self.now - ago
        self.sent.append(Message(place, window, cost))

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """In any order, as often as you like."""
        if not self.sent:
            return
        message = data.draw(st.sampled_from(self.sent))
        one = self.known.get(message.place)
        if one is not None and one.window < message.window - 1:
            return  # a crash has brought an old reservation back, of which this message does not speak
        self.accounts.settle(ROOT, *message.place, message.window, message.cost)
        if one is not None:
            one.real = message.cost if one.real is None else one.real
        elif message.cost != NOTHING and message.window >= self.newest - 1:
            self.enter(message.window)
            self.known[message.place] = Known(message.window, NOTHING, message.cost)

    @rule(place=PLACES)
    def release(self, place: tuple[str, int]) -> None:
        self.accounts.release(ROOT, *place)
        if place in self.known and self.known[place].real is None:
            del self.known[place]

    @rule()
    def store(self) -> None:
        self.journal += over_the_wire(self.accounts.take_changes())
        self.stored = (deepcopy(self.known), self.newest)

    @rule()
    def store_in_vain(self) -> None:
        self.accounts.put_back_changes(self.accounts.take_changes())

    @rule()
    def store_checkpoint(self) -> None:
        self.store()
        dumped = self.accounts.dump(self.now)
        self.checkpoint = msgspec.json.decode(msgspec.json.encode(dumped), type=AccountsCheckpoint)
        self.accounts.forget(self.now)

    @rule(from_checkpoint=st.booleans())
    def crash(self, from_checkpoint: bool) -> None:
        """What was not stored is gone; all that was stored is there, though the fold begins too early."""
        self.known, self.newest = deepcopy(self.stored[0]), self.stored[1]
        self.accounts = self.rebuilt(from_checkpoint)

    def rebuilt(self, from_checkpoint: bool) -> Accounts:
        accounts = Accounts()
        if from_checkpoint and self.checkpoint is not None:
            accounts.restore(self.checkpoint)
        for change in self.journal:
            accounts.apply(change)
        return accounts

    @invariant()
    def it_has_counted_every_thought_once(self) -> None:
        assert self.accounts.committed(ROOT, self.now) == self.used(self.now)
        left = self.accounts.share_left(ROOT, LIMITS, self.now)
        used = self.used(self.now)
        assert left == pytest.approx(max(0.0, min(1 - used.tokens / 10, 1 - used.cpu_ms / 12)))

    @invariant()
    def nothing_but_errors_of_estimate_goes_beyond_the_limit(self) -> None:
        here = [one for one in self.known.values() if one.window == self.now]
        for kind, limit in (("tokens", LIMITS.tokens), ("cpu_ms", LIMITS.cpu_ms)):
            excess = sum(max(0, getattr(one.cost, kind) - getattr(one.estimate, kind)) for one in here)
            assert getattr(self.accounts.committed(ROOT, self.now), kind) <= limit + excess

    @invariant()
    def an_owner_that_comes_after_a_crash_has_the_same_state(self) -> None:
        changes = self.accounts.take_changes()
        for from_checkpoint in (False, True):
            accounts = self.rebuilt(from_checkpoint)
            for change in over_the_wire(changes):
                accounts.apply(change)
            assert accounts.dump(self.now) == self.accounts.dump(self.now)
            assert accounts.number == self.accounts.number
        self.accounts.put_back_changes(changes)


TestAccounts = pytest.mark.fact("A16")(Model.TestCase)
TestAccounts.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def reserve(
    accounts: Accounts, thought: int, tokens: int, window: int = 1, cpu_ms: int = 0
) -> Shortage | None:
    return accounts.reserve(ROOT, LIMITS, "a", thought, window, Credits(tokens, cpu_ms))


@pytest.mark.fact("A16")
def test_a_window_is_a_whole_minute() -> None:
    assert [window_of(at) for at in (0.0, 59.99, 60.0, 1_760_000_000.5)] == [0, 0, 1, 29_333_333]


@pytest.mark.fact("A16")
def test_what_is_reserved_is_gone_until_it_is_settled_at_its_real_cost() -> None:
    accounts = Accounts()
    assert reserve(accounts, 1, 8) is None
    assert reserve(accounts, 2, 3) is not None
    accounts.settle(ROOT, "a", 1, 1, Credits(5, 0))
    assert reserve(accounts, 2, 3) is None
    assert accounts.committed(ROOT, 1) == Credits(8, 0)


@pytest.mark.fact("A16")
def test_both_kinds_have_to_be_there_and_the_scarcer_one_is_the_share_that_is_left() -> None:
    accounts = Accounts()
    assert reserve(accounts, 1, 5, cpu_ms=12) is None
    short = reserve(accounts, 2, 1, cpu_ms=1)
    assert short is not None and short.credit is Credit.CPU_MS
    assert reserve(accounts, 3, 1) is None, "what needs none of the kind that is out may go on"
    assert accounts.share_left(ROOT, LIMITS, 1) == 0.0
    assert accounts.share_left(ROOT, LIMITS, 2) == 1.0
    assert accounts.share_left("nobody", LIMITS, 1) == 1.0
    assert accounts.share_left("nobody", Credits(0, 9), 1) == 0.0, "who has no credits has none left"


@pytest.mark.fact("A16")
def test_a_refusal_says_what_is_short_and_whether_waiting_helps() -> None:
    accounts = Accounts()
    reserve(accounts, 1, 8)
    short = reserve(accounts, 2, 3)
    assert short == Shortage(ROOT, Credit.TOKENS, limit=10, committed=8, cost=3)
    assert str(short) == "the thought needs 3 tokens; root has committed 8 of its 10 in this minute"
    assert not short.for_good
    never = reserve(accounts, 2, 3, cpu_ms=13)
    assert never is not None and never.for_good
    assert str(never) == "the thought needs 13 ms of thinking, more than the 12 that root has in any minute"


@pytest.mark.fact("A16")
def test_the_next_minute_has_credits_of_its_own_and_a_late_settlement_counts_in_the_last() -> None:
    accounts = Accounts()
    reserve(accounts, 1, 10, window=1)
    assert reserve(accounts, 2, 10, window=2) is None
    accounts.settle(ROOT, "a", 1, 1, Credits(99, 0))
    assert accounts.committed(ROOT, 2) == Credits(10, 0)


@pytest.mark.fact("A16")
def test_asked_again_across_the_minute_s_end_a_reservation_is_not_made_twice() -> None:
    accounts = Accounts()
    reserve(accounts, 1, 6, window=1)
    assert reserve(accounts, 1, 6, window=2) is None
    assert accounts.committed(ROOT, 2) == NOTHING
    assert reserve(accounts, 1, 6, window=3) is None, "long after, it is another dispatch"
    assert accounts.committed(ROOT, 3) == Credits(6, 0)


@pytest.mark.fact("A16")
def test_a_clock_that_was_set_back_neither_gives_credits_twice_nor_takes_them_for_an_hour() -> None:
    accounts = Accounts()
    reserve(accounts, 1, 8, window=100)
    reserve(accounts, 2, 2, window=40)
    assert accounts.committed(ROOT, 40) == Credits(10, 0), "what was spent by the wrong clock is spent"
    assert reserve(accounts, 3, 1, window=40) is not None
    assert reserve(accounts, 3, 1, window=41) is None
    accounts.settle(ROOT, "a", 1, 100, Credits(3, 0))
    assert accounts.committed(ROOT, 41) == Credits(1, 0), "it is settled where it was reserved"


@pytest.mark.fact("A16")
def test_a_spent_account_has_credits_anew_in_the_next_minute_of_a_clock_that_was_set_back() -> None:
    """Though in the minute that it was set back to nothing can be granted. A fold comes to the same."""
    accounts = Accounts()
    reserve(accounts, 1, 10, window=100)
    for _ in range(2):
        assert reserve(accounts, 2, 1, window=40) is not None
    changes = accounts.take_changes()
    assert len(changes) == 3, "asked again, nothing more happens"
    rebuilt = Accounts()
    for change in changes:
        rebuilt.apply(change)
    for one in (accounts, rebuilt):
        assert one.committed(ROOT, 40) == Credits(10, 0)
        assert reserve(one, 2, 1, window=41) is None
        assert one.committed(ROOT, 41) == Credits(1, 0)


@pytest.mark.fact("A16")
def test_a_clock_that_was_set_back_after_accounts_were_forgotten_counts_nothing_twice() -> None:
    """The fold has forgotten nothing, so it comes to a little more; never to less, and never to a crash."""
    accounts = Accounts()
    reserve(accounts, 1, 3, window=100)
    reserve(accounts, 2, 3, window=100)
    accounts.settle(ROOT, "a", 2, 100, Credits(3, 0))
    accounts.forget(110)
    reserve(accounts, 1, 4, window=99)
    accounts.settle(ROOT, "a", 2, 99, Credits(2, 0))
    rebuilt = Accounts()
    for change in accounts.take_changes():
        rebuilt.apply(change)
    assert accounts.committed(ROOT, 99) == Credits(6, 0)
    assert rebuilt.committed(ROOT, 99) == Credits(7, 0)


@pytest.mark.fact("A16")
def test_a_clock_that_is_one_minute_behind_counts_in_the_newest_minute() -> None:
    accounts = Accounts()
    reserve(accounts, 1, 8, window=100)
    assert reserve(accounts, 2, 3, window=99) is not None
    assert reserve(accounts, 3, 2, window=99) is None
    for _ in range(2):
        accounts.settle(ROOT, "a", 3, 99, Credits(1, 0))
    assert accounts.committed(ROOT, 99) == Credits(9, 0)
    assert accounts.dump(100).windows[0].window == 100, "and in no other"


@pytest.mark.fact("A16")
def test_what_comes_again_or_much_too_late_is_no_change() -> None:
    accounts = Accounts()
    reserve(accounts, 1, 5, window=7)
    accounts.settle(ROOT, "a", 1, 7, Credits(5, 0))
    accounts.release(ROOT, "b", 1)
    accounts.take_changes()
    reserve(accounts, 1, 5, window=7)
    accounts.settle(ROOT, "a", 1, 7, Credits(5, 0))
    accounts.settle(ROOT, "b", 9, 5, Credits(5, 0))
    accounts.release(ROOT, "a", 1)
    assert accounts.take_changes() == []


@pytest.mark.fact("A16")
def test_a_checkpoint_knows_the_last_minute_too() -> None:
    accounts, again = Accounts(), Accounts()
    reserve(accounts, 1, 6, window=1)
    reserve(accounts, 2, 6, window=2)
    again.restore(accounts.dump(2))
    assert reserve(again, 1, 6, window=2) is None, "it was granted in the last minute"
    assert again.committed(ROOT, 2) == Credits(6, 0)


@pytest.mark.fact("A16")
def test_what_costs_nothing_is_granted_and_leaves_no_trace() -> None:
    """Thoughts without a model cost nothing, and there are many thousands a second."""
    accounts = Accounts()
    assert reserve(accounts, 1, 0) is None
    accounts.settle(ROOT, "a", 1, 1, NOTHING)
    accounts.release(ROOT, "a", 1)
    assert accounts.take_changes() == []
    assert len(accounts) == 0


@pytest.mark.fact("A16")
def test_changes_are_numbered_and_told_once_unless_they_are_put_back() -> None:
    accounts = Accounts()
    reserve(accounts, 1, 8)
    accounts.settle(ROOT, "a", 1, 1, Credits(5, 0))
    changes = accounts.take_changes()
    assert changes == [
        CreditChange(1, CreditEvent.RESERVED, ROOT, "a", 1, 1, Credits(8, 0)),
        CreditChange(2, CreditEvent.SETTLED, ROOT, "a", 1, 1, Credits(5, 0)),
    ]
    assert accounts.take_changes() == []
    reserve(accounts, 2, 1)
    accounts.put_back_changes(changes)
    assert [change.number for change in accounts.take_changes()] == [1, 2, 3]


def test_accounts_in_which_nothing_happens_any_more_are_forgotten() -> None:
    accounts = Accounts()
    reserve(accounts, 1, 8, window=1)
    accounts.forget(2)
    assert len(accounts) == 1, "late settlements may come"
    accounts.forget(3)
    assert len(accounts) == 0
    assert accounts.dump(3).windows == []


@pytest.mark.fact("A16")
def test_a_minute_of_a_busy_tree_is_kept_in_two_numbers_a_persona() -> None:
    accounts, limits = Accounts(), Credits(10**9, 10**9)
    for thought in range(1, 601):
        for persona_id in ("a", "b"):
            accounts.reserve(ROOT, limits, persona_id, thought, 1, Credits(200, 90))
            accounts.settle(ROOT, persona_id, thought, 1, Credits(180, 100))
    [window] = accounts.dump(1).windows
    assert window.settled == {"a": [1, 600], "b": [1, 600]}
    assert window.spent == Credits(1200 * 180, 1200 * 100)
