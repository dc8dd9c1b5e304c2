"""Who looks next among many personas [A10, A11]."""

from __future__ import annotations

import gc
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.scheduler.rhythm import GRID_FLOOR_S, Due, Rhythm

PERSONAS = st.sampled_from([f"p{number}" for number in range(6)])


def shard_of(persona_id: str) -> int:
    return int(persona_id[1:]) % 2


class Model(RuleBasedStateMachine):
    """The rhythm beside a plain dictionary. An interval of 16 makes the grid 1, so times are exact."""

    def __init__(self) -> None:
        super().__init__()
        self.rhythm = Rhythm(16.0)
        self.due: dict[str, float] = {}
        self.now = 0.0

    @rule(persona=PERSONAS, ahead=st.integers(-3, 12), part=st.sampled_from([0.0, 0.25, 0.999]))
    def set(self, persona: str, ahead: int, part: float) -> None:
        at = self.rhythm.set(persona, shard_of(persona), self.now + ahead + part)
        assert at == self.now + ahead + (part > 0), "rounded up to the grid"
        self.due[persona] = at

    @rule(persona=PERSONAS)
    def remove(self, persona: str) -> None:
        self.rhythm.remove(persona)
        self.due.pop(persona, None)

    @rule(ahead=st.integers(0, 6))
    def hasten(self, ahead: int) -> None:
        self.rhythm.hasten(self.now + ahead)
        self.due = {persona: min(due, self.now + ahead) for persona, due in self.due.items()}

    @rule()
    def clear(self) -> None:
        self.rhythm.clear()
        self.due.clear()

    @rule(passed=st.integers(0, 8))
    def take(self, passed: int) -> None:
        self.now += passed
        taken = self.rhythm.take_due(self.now)
        found = sorted((due.at, due.shard, persona) for due in taken for persona in due.persona_ids)
        expected = [(at, shard_of(p), p) for p, at in self.due.items() if at <= self.now]
        assert found == sorted(expected)
        assert [due.at for due in taken] == sorted(due.at for due in taken), "the longest overdue first"
        assert len({(due.at, due.shard) for due in taken}) == len(taken), "a shard's come together"
        self.due = {persona: at for persona, at in self.due.items() if at > self.now}

    @invariant()
    def everybody_has_one_due_time(self) -> None:
        assert self.rhythm.next_due() == min(self.due.values(), default=None)
        assert len(self.rhythm) == len(self.due)
        for number in range(6):
            assert self.rhythm.due_of(f"p{number}") == self.due.get(f"p{number}")
            assert (f"p{number}" in self.rhythm) == (f"p{number}" in self.due)


TestRhythm = pytest.mark.fact("A10")(Model.TestCase)
TestRhythm.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.mark.fact("A10")
@given(st.floats(0.01, 100), st.floats(0, 1e7))
def test_a_due_time_moves_by_less_than_the_grid_and_then_stays(interval: float, due: float) -> None:
    rhythm = Rhythm(interval)
    grid = max(GRID_FLOOR_S, interval / 16)
    at = rhythm.set("p", 0, due)
    assert due - 1e-5 * grid <= at <= due + grid
    assert rhythm.set("p", 0, at) == at


@pytest.mark.fact("A11")
@given(st.floats(0.01, 100), st.floats(0, 1e5), st.floats(0, 1e3))
def test_who_may_come_later_does_so_by_no_more_than_it_may(interval: float, due: float, slack: float) -> None:
    rhythm = Rhythm(interval)
    grid = max(GRID_FLOOR_S, interval / 16)
    at = rhythm.set("p", 0, due, slack)
    assert due - 1e-5 * max(grid, slack) <= at <= due + max(grid, slack)
    assert rhythm.set("p", 0, at) == at, "it is a slot of the finer grid, too"


@pytest.mark.fact("A11")
def test_those_who_may_come_later_come_due_together() -> None:
    """Due within 20 s in any order, and with 1.2 s to spare: one moment a second, not one for each."""
    rhythm = Rhythm(1.0)
    for number in range(200):
        rhythm.set(f"p{number}", number % 64, number * 0.1, 1.2)
    assert len({due.at for due in rhythm.take_due(30.0)}) <= 21


@pytest.mark.fact("A10")
def test_a_wait_counted_from_when_one_was_due_keeps_the_rhythm() -> None:
    """Taken late, set anew from its due time: no delay adds up."""
    rhythm = Rhythm(2.0)
    rhythm.set("p", 3, 100.0)
    for tick in range(50):
        [due] = rhythm.take_due(100.0 + 2 * tick + 0.03)
        assert due == Due(100.0 + 2 * tick, 3, ["p"])
        rhythm.set("p", due.shard, due.at + 2.0)


@pytest.mark.fact("A10")
def test_another_interval_is_another_grid_for_what_is_set_from_then_on() -> None:
    rhythm = Rhythm(16.0)
    rhythm.set("p", 0, 0.3)
    rhythm.pace(1.6)
    assert rhythm.set("q", 0, 0.31) == pytest.approx(0.4)
    assert [due.persona_ids for due in rhythm.take_due(2.0)] == [["q"], ["p"]]


def calls_of(rhythm: Rhythm, now: float) -> int:
    """How many functions taking the due ones calls, C functions too, but none that a collection calls."""
    count = 0

    def counted(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()
    sys.setprofile(counted)
    try:
        rhythm.take_due(now)
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


@pytest.mark.fact("A11")
def test_a_look_costs_nothing_for_those_who_rest() -> None:
    """Ten are due among a hundred or a hundred thousand who are not: it takes as many steps."""
    steps = []
    for resting in (100, 100_000):
        rhythm = Rhythm(2.0)
        for number in range(resting):
            rhythm.set(f"resting-{number}", number % 64, 50.0 + number % 40)
        for number in range(10):
            rhythm.set(f"due-{number}", number % 2, 1.0)
        steps.append(calls_of(rhythm, 10.0))
        assert len(rhythm) == resting
    assert steps[0] == steps[1] < 100


@pytest.mark.fact("A11")
def test_moving_one_persona_for_ever_leaves_nothing_behind() -> None:
    rhythm = Rhythm(2.0)
    for number in range(10_000):
        rhythm.set("p", 0, float(number))
    assert len(rhythm._slots) == 1
    assert len(rhythm._heap) < 50
