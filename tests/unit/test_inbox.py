"""A persona's inbox: bounded, best first, aging [A2, A4, A5, A12]."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from libs.contracts.limits import INBOX_ITEMS, ITEM_ATTEMPTS
from services.scheduler.inbox import AGED_S, Held, Inbox
from services.scheduler.mail import Standing
from tests.unit.make import inbox_item

BASES = st.sampled_from([0, 10, 50, 60, 90, 100])


def held(sequence: int, base: int = 50, arrived: float = 0.0) -> Held:
    return Held(sequence, Standing(base), arrived, inbox_item(id=f"i-{sequence}"))


def filled(*bases: int, arrived: float = 0.0, most: int = INBOX_ITEMS) -> Inbox:
    """An inbox with these base priorities, sequences from 1."""
    inbox = Inbox(most)
    for sequence, base in enumerate(bases, start=1):
        inbox.add(held(sequence, base, arrived), arrived)
    return inbox


def best(inbox: Inbox, now: float, above: float = -1.0, most: int = 10) -> list[int]:
    return [one.sequence for one in inbox.best(now, above, most)]


class Model(RuleBasedStateMachine):
    """The inbox beside a plain list of what it must hold."""

    MOST = 6

    def __init__(self) -> None:
        super().__init__()
        self.inbox = Inbox(self.MOST)
        self.held: list[Held] = []
        self.gone: list[int] = []
        self.now = 0.0
        self.sent = 0

    def order(self, one: Held) -> tuple[float, float, int]:
        return -one.effective(self.now), one.arrived, one.sequence

    @rule(seconds=st.sampled_from([0.5, 6.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(base=BASES, late=st.sampled_from([0.0, 0.0, 0.0, 20.0]))
    def add(self, base: int, late: float) -> None:
        """`late`: a new owner takes the arrival from the stream, by another clock."""
        self.sent += 1
        new = held(self.sent, base, self.now - late)
        gave_way = self.inbox.add(new, self.now)
        self.held.append(new)
        if len(self.held) <= self.MOST:
            assert gave_way is None
            return
        worst = max((one for one in self.held if not one.taken_up), key=self.order)
        assert gave_way is worst
        self.held.remove(worst)
        self.gone.append(worst.sequence)

    @rule(data=st.data())
    def add_again(self, data: st.DataObject) -> None:
        if self.held:
            again = data.draw(st.sampled_from(self.held)).sequence
            assert self.inbox.add(held(again, 100, self.now), self.now) is None

    @rule(data=st.data(), above=st.sampled_from([-1.0, 55.0, 100.0]), most=st.integers(1, 4))
    def take_up(self, data: st.DataObject, above: float, most: int) -> None:
        free = [h for h in self.held if not h.taken_up and h.not_before <= self.now]
        eager = [h for h in free if h.effective(self.now) > above or self.now - h.arrived >= AGED_S]
        eager.sort(key=self.order)
        expected = eager[:most]
        if most > 1 and len(eager) > most:
            oldest = min(eager, key=lambda h: (h.arrived, h.sequence))
            if oldest not in expected and self.now - oldest.arrived >= AGED_S:
                expected[-1] = oldest
        found = self.inbox.best(self.now, above, most)
        assert found == expected
        self.inbox.take_up([one.sequence for one in found if data.draw(st.booleans())])

    @rule(data=st.data(), what=st.sampled_from(["remove", "put back", "fail"]))
    def settle(self, data: st.DataObject, what: str) -> None:
        if not self.held:
            return
        one = data.draw(st.sampled_from(self.held))
        if what == "put back":
            self.inbox.put_back([one.sequence])
            assert not one.taken_up
        elif what == "fail" and one.attempts + 1 < ITEM_ATTEMPTS:
            one.standing.attempts += 1
            self.inbox.failed(one.sequence, self.now)
            assert not one.taken_up
        else:
            assert self.inbox.remove(one.sequence) is one
            assert self.inbox.remove(one.sequence) is None
            self.held.remove(one)
            self.gone.append(one.sequence)

    @invariant()
    def it_holds_exactly_what_it_must(self) -> None:
        assert len(self.inbox) == len(self.held) <= self.MOST
        assert all(self.inbox.get(one.sequence) is one for one in self.held)
        assert not any(sequence in self.inbox for sequence in self.gone)
        assert sorted([*self.gone, *(one.sequence for one in self.held)]) == list(range(1, self.sent + 1))
        shown = [f"i-{one.sequence}" for one in sorted(self.held, key=self.order)]
        assert [one.id for one in self.inbox.shown(self.now)] == shown
        free = [h.base for h in self.held if not h.taken_up and h.not_before <= self.now]
        assert self.inbox.highest_base(self.now) == max(free, default=None)
        waiting = [h.not_before for h in self.held if not h.taken_up and h.not_before > self.now]
        assert self.inbox.next_retry(self.now) == min(waiting, default=None)


TestInbox = pytest.mark.fact("A2")(Model.TestCase)
TestInbox.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.mark.fact("A2")
def test_the_best_come_first_and_of_equals_the_one_that_came_first() -> None:
    inbox = filled(50, 90, 50, 90, 10)
    assert best(inbox, 1.0) == [2, 4, 1, 3, 5]


@pytest.mark.fact("A2")
def test_of_a_full_inbox_and_a_newcomer_the_worst_gives_way() -> None:
    inbox = filled(50, 10, 90, most=3)
    gave_way = inbox.add(held(4, 60), 0.0)
    assert gave_way is not None and gave_way.sequence == 2
    newcomer = inbox.add(held(5, 10), 0.0)
    assert newcomer is not None and newcomer.sequence == 5, "the newcomer may be the worst itself"
    equal = inbox.add(held(6, 50), 0.0)
    assert equal is not None and equal.sequence == 6, "of equals the one that came last"


@pytest.mark.fact("A2")
def test_it_holds_1000() -> None:
    inbox = filled(*[50] * 1000)
    assert len(inbox) == 1000
    assert inbox.add(held(1001, 51), 0.0) is inbox.get(1000) or len(inbox) == 1000


@pytest.mark.fact("A4")
def test_waiting_adds_50_in_30_seconds_and_no_more() -> None:
    one = held(1, base=20, arrived=100.0)
    assert [one.effective(now) for now in (99.0, 100.0, 115.0, 130.0, 900.0)] == [20, 20, 45, 70, 70]


@pytest.mark.fact("A4")
def test_who_gives_way_is_decided_by_what_waiting_has_added_too() -> None:
    inbox = filled(40, most=1)
    newcomer = inbox.add(held(2, 80, 30.0), 30.0)
    assert newcomer is not None and newcomer.sequence == 2, "40 + 50 is more than 80"


@pytest.mark.fact("A4")
@given(st.integers(0, 100), st.integers(0, 100), st.floats(0, 60))
def test_an_item_goes_before_all_that_come_later_by_enough(one: int, other: int, later: float) -> None:
    """By 30 s of 50 hundredths: what is less than 50 better, and comes 30 s later, waits behind."""
    inbox = Inbox()
    inbox.add(held(1, one, 0.0), 0.0)
    inbox.add(held(2, other, later), later)
    first = best(inbox, later)[0]
    assert first == (1 if one + min(50.0, later * 5 / 3) >= other else 2)


@pytest.mark.fact("A4")
@settings(max_examples=50, deadline=None)
@given(
    base=st.integers(0, 100),
    flood=st.lists(st.integers(0, 100), min_size=1, max_size=5),
    backlog=st.integers(0, 40),
    a_cycle=st.integers(1, 6),
    period=st.floats(1, 20),
)
def test_whatever_comes_in_an_item_is_taken_up_or_gives_way_in_bounded_time(
    base: int, flood: list[int], backlog: int, a_cycle: int, period: float
) -> None:
    """A steady flood, as much as is taken up or more: aging alone would let a standing backlog starve it."""
    most, places = 50, 4
    inbox = Inbox(most)
    inbox.add(held(0, base), 0.0)
    sequence = 0
    for _ in range(backlog):
        sequence += 1
        inbox.add(held(sequence, 100), 0.0)
    for cycle in range(1, int(AGED_S / period) + most + 3):
        now = cycle * period
        for number in range(a_cycle):
            sequence += 1
            inbox.add(held(sequence, flood[number % len(flood)], now), now)
        for one in inbox.best(now, most=places):
            inbox.remove(one.sequence)
        if 0 not in inbox:
            return
    pytest.fail("it never came up")


@pytest.mark.fact("A4")
def test_a_flood_that_is_kept_up_with_delays_an_item_by_30_seconds_at_most() -> None:
    """Ten items of 95 come each second, and ten are taken up: one of 50 goes once it has aged."""
    inbox = Inbox()
    inbox.add(held(0, 50), 0.0)
    for second in range(1, 40):
        for number in range(10):
            inbox.add(held(second * 100 + number, 95, second), second)
        for one in inbox.best(second):
            inbox.remove(one.sequence)
        if 0 not in inbox:
            break
    assert second == 27, "50 + 50 * 27/30 is 95, and of equals the one that came first goes first"


@pytest.mark.fact("A5")
def test_a_thought_takes_up_ten_at_most() -> None:
    inbox = filled(*range(30, 70))
    assert best(inbox, 1.0) == list(range(40, 30, -1))


@pytest.mark.fact("A5")
def test_what_is_taken_up_is_not_taken_up_by_anybody_else_and_does_not_give_way() -> None:
    inbox = filled(10, 90, most=2)
    inbox.take_up([1])
    assert best(inbox, 0.0) == [2]
    gave_way = inbox.add(held(3, 50), 0.0)
    assert gave_way is not None and gave_way.sequence == 3
    inbox.put_back([1])
    assert best(inbox, 0.0) == [2, 1]
    one = inbox.get(1)
    assert one is not None and one.attempts == 0, "put back: nothing has tried it"


@pytest.mark.fact("A5")
def test_a_failing_item_is_tried_again_after_longer_and_longer() -> None:
    inbox, now = filled(90), 0.0
    pauses = []
    one = inbox.get(1)
    assert one is not None
    for _ in range(ITEM_ATTEMPTS):
        assert best(inbox, now) == [1]
        inbox.take_up([1])
        one.standing.attempts += 1
        inbox.failed(1, now)
        assert best(inbox, now) == []
        assert inbox.highest_base(now) is None
        again = inbox.next_retry(now)
        assert again is not None
        pauses.append(again - now)
        now = again
    assert pauses == [2.0, 4.0, 8.0]
    inbox.failed(9, now)  # an item that has given way meanwhile


@pytest.mark.fact("A9")
def test_only_what_is_above_the_threshold_is_taken_up() -> None:
    inbox = filled(30, 31, 90)
    assert best(inbox, 0.0, above=30) == [3, 2]
    assert best(inbox, 29.5, above=80) == [3, 2], "30 + 49 is not above 80"
    assert best(inbox, 30.0, above=80) == [3, 2, 1], "nor is 30 + 50, and waiting adds no more [A4]"


@pytest.mark.fact("A12")
def test_the_highest_base_priority_does_not_age() -> None:
    inbox = filled(79, 60)
    assert inbox.highest_base(1000.0) == 79
    assert Inbox().highest_base(0.0) is None


def test_it_shows_what_it_holds_as_0_to_1() -> None:
    inbox = filled(90, arrived=10.0)
    inbox.take_up([1])
    [shown] = inbox.shown(22.0)
    assert (shown.base_priority, shown.effective_priority, shown.waited_s) == (0.9, 1.1, 12.0)
    assert shown.taken_up


def test_an_empty_inbox_takes_no_more_than_200_bytes() -> None:
    """A hundred thousand personas may have one."""
    inbox = Inbox()
    parts = [getattr(inbox, name) for name in ("_held", "_buckets")]
    assert sys.getsizeof(inbox) + sum(sys.getsizeof(part) for part in parts) <= 200


def test_adding_to_a_full_inbox_looks_at_one_item_of_each_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = filled(*[number % 101 for number in range(INBOX_ITEMS)])
    looked: list[int] = []
    effective = Held.effective

    def counted(one: Held, now: float) -> float:
        looked.append(one.sequence)
        return effective(one, now)

    monkeypatch.setattr(Held, "effective", counted)
    inbox.add(held(2000, 50), 1.0)
    assert len(looked) <= 101
