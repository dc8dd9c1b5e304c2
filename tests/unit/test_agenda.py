"""When shards are due [3.1, 3.4]. Times are whole numbers here, so that they compare exactly."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.scheduler.agenda import Agenda, first_tick, spread

SHARD = st.integers(0, 2)
TIMES = st.integers(0, 12)


class Model(RuleBasedStateMachine):
    """The agenda beside a plain dictionary of due times."""

    def __init__(self) -> None:
        super().__init__()
        self.agenda = Agenda()
        self.due: dict[int, float] = {}
        self.now = 0

    @rule(shard=SHARD, due=TIMES)
    def add(self, shard: int, due: int) -> None:
        self.agenda.add(shard, due)
        self.due.setdefault(shard, due)

    @rule(shard=SHARD)
    def remove(self, shard: int) -> None:
        self.agenda.remove(shard)
        self.due.pop(shard, None)

    @rule(ahead=st.integers(0, 10))
    def hasten(self, ahead: int) -> None:
        latest = self.now + ahead
        self.agenda.hasten(latest)
        self.due = {shard: min(due, latest) for shard, due in self.due.items()}

    @rule()
    def clear(self) -> None:
        self.agenda.clear()
        self.due.clear()

    @precondition(lambda self: self.due)
    @rule(passed=st.integers(0, 15), interval=st.integers(1, 10))
    def take(self, passed: int, interval: int) -> None:
        self.now += passed
        taken = self.agenda.take_due(self.now, interval)
        assert sorted(taken) == sorted((s, due) for s, due in self.due.items() if due <= self.now)
        assert [due for _, due in taken] == sorted(due for _, due in taken), "the longest overdue first"
        for shard, due in taken:
            self.due[shard] = max(due + interval, self.now)

    @invariant()
    def it_knows_who_is_next(self) -> None:
        assert self.agenda.next_due() == min(self.due.values(), default=None)
        assert len(self.agenda) == len(self.due)
        assert all(shard in self.agenda for shard in self.due)


TestAgenda = pytest.mark.fact("3.4")(Model.TestCase)
TestAgenda.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


@pytest.mark.fact("3.4")
@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.integers(1, 7))
def test_a_late_tick_is_followed_at_once_but_never_by_a_burst(pauses: list[int], interval: int) -> None:
    """However long the caller was away, a shard is taken once; on time it keeps its rhythm."""
    agenda = Agenda()
    agenda.add(1, 0)
    now, ticks = 0, []
    for pause in pauses:
        now += pause
        taken = agenda.take_due(now, interval)
        assert len(taken) <= 1
        if taken:
            late_by = now - taken[0][1]
            due = agenda.next_due()
            assert due == (now if late_by > interval else taken[0][1] + interval)
            ticks.append(now)
    assert len(ticks) <= now // interval + 1 + sum(pause > interval for pause in pauses)


@pytest.mark.fact("3.4")
def test_ticks_on_time_are_an_interval_apart() -> None:
    agenda = Agenda()
    agenda.add(1, 10)
    assert agenda.take_due(9.9, 2) == []
    assert agenda.take_due(10, 2) == [(1, 10)]
    assert agenda.take_due(10, 2) == []
    assert agenda.take_due(12.5, 2) == [(1, 12)]
    assert agenda.next_due() == 14, "half a second late does not shift the rhythm"


@pytest.mark.fact("3.4")
def test_an_overrun_is_followed_by_one_tick_at_once() -> None:
    agenda = Agenda()
    agenda.add(1, 0)
    agenda.take_due(0, 2)
    assert agenda.take_due(11, 2) == [(1, 2)]
    assert agenda.take_due(11, 2) == [(1, 11)]
    assert agenda.take_due(11, 2) == []
    assert agenda.next_due() == 13


@pytest.mark.fact("3.4")
def test_shards_begin_together_and_tick_apart() -> None:
    """The second tick moves by the lag that a shard is to have; from then on ticks are an interval apart."""
    agenda = Agenda()
    for shard in (1, 2):
        agenda.add(shard, 10)
    lag = {1: 0.0, 2: 0.5}.__getitem__
    assert agenda.take_due(10, 2, lag) == [(1, 10), (2, 10)]
    assert agenda.take_due(13, 2, lag) == [(1, 12), (2, 12.5)]
    assert agenda.take_due(15, 2, lag) == [(1, 14), (2, 14.5)]
    assert agenda.take_due(17, 2, lambda shard: 0.0) == [(1, 16), (2, 16.5)]
    assert agenda.take_due(19, 2, lambda shard: 0.0) == [(1, 18), (2, 18)]


def test_a_shard_that_left_and_came_back_for_the_same_time_ticks_once() -> None:
    agenda = Agenda()
    agenda.add(1, 5)
    agenda.remove(1)
    agenda.add(1, 5)
    assert agenda.take_due(5, 2) == [(1, 5)]


def test_a_shorter_interval_hastens_and_delays_nobody() -> None:
    agenda = Agenda()
    agenda.add(1, 3)
    agenda.add(2, 90)
    agenda.hasten(10)
    assert agenda.take_due(100, 1000) == [(1, 3), (2, 10)]


@pytest.mark.fact("3.4")
@pytest.mark.parametrize(
    ("since_start", "since_tick", "due"),
    [
        (0.0, None, 100),  # the loop has just been started: at once
        (7.0, None, 100),  # never ticked: at once
        (7.0, 0.5, 101),  # ticked in this interval: at its end
        (7.0, 1.0, 101),
        (7.0, 1.5, 100),  # missed the tick at 6
        (7.0, 60.0, 100),
        (6.0, 1.0, 100),
    ],
)
def test_a_shard_taken_over_keeps_the_rhythm_of_the_run(
    since_start: float, since_tick: float | None, due: float
) -> None:
    assert first_tick(100, since_start, since_tick, 2) == due


@given(st.floats(0, 1e6), st.none() | st.floats(0, 1e6), st.floats(0.1, 86_400), st.floats(0, 1e6))
def test_a_first_tick_is_never_past_and_never_more_than_an_interval_away(
    since_start: float, since_tick: float | None, interval: float, now: float
) -> None:
    assert now <= first_tick(now, since_start, since_tick, interval) <= now + interval


@given(st.integers(0, 10**7), st.floats(0.1, 86_400))
def test_ticks_are_spread_over_less_than_the_interval(personas: int, interval: float) -> None:
    assert 0 <= spread(personas, interval) < interval
    assert 0 <= spread(personas, interval, 64) < interval
    assert spread(100, interval) <= 0.05, "a small swarm begins together"
    assert spread(1, interval, 1) <= 0.005, "a lone persona waits for nobody"
