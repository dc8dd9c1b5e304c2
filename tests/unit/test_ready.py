"""Who thinks next among those who are due [A12–A14]."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.scheduler.ready import Ready

PERSONAS = st.sampled_from("abcdefgh")


class Model(RuleBasedStateMachine):
    """Personas come due at random, some with something urgent, and a few at a time may think."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = Ready()
        self.now = 0.0
        self.waiting: list[str] = []
        self.since: dict[str, float] = {}
        self.urgent: set[str] = set()
        self.dispatches: dict[str, Counter[str]] = {}
        """Per waiting persona: who had a turn since it began to wait, and how often."""

        self.lately: deque[bool] = deque(maxlen=4)
        """Of the last four dispatches, while somebody not urgent waited: was it ahead of its turn?"""

    @rule(seconds=st.integers(0, 9))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(persona=PERSONAS, urgent=st.booleans())
    def add(self, persona: str, urgent: bool) -> None:
        self.ready.add(persona, self.now, urgent)
        if persona not in self.waiting:
            self.waiting.append(persona)
            self.since[persona] = self.now
            self.dispatches[persona] = Counter()
        if urgent:
            self.urgent.add(persona)

    @rule(persona=PERSONAS)
    def remove(self, persona: str) -> None:
        self.ready.remove(persona)
        self.gone(persona)

    @rule(most=st.integers(0, 4))
    def take(self, most: int) -> None:
        taken = self.ready.take(most)
        assert len(taken) == min(most, len(self.waiting))
        for persona in taken:
            self.dispatched(persona)

    def dispatched(self, persona: str) -> None:
        first = self.waiting[0]
        ahead = persona != first
        assert persona in self.urgent or not ahead, "only urgent ones go ahead of those who waited longer"
        others_wait = not self.urgent.issuperset(self.waiting)
        self.lately.append(ahead and others_wait)
        assert sum(self.lately) <= 1, "at most one in four goes ahead while others wait"
        self.gone(persona)
        for turns in self.dispatches.values():
            turns[persona] += not ahead
            assert turns[persona] <= 1, "a second turn while another waited for its first"

    def gone(self, persona: str) -> None:
        if persona in self.waiting:
            self.waiting.remove(persona)
            del self.dispatches[persona]
        self.urgent.discard(persona)

    @invariant()
    def it_knows_who_waits(self) -> None:
        assert list(self.ready) == self.waiting
        assert len(self.ready) == len(self.waiting)
        assert self.ready.urgent == len(self.urgent)
        longest = self.now - self.since[self.waiting[0]] if self.waiting else 0.0
        assert self.ready.longest_wait(self.now) == longest


TestReady = pytest.mark.fact("A14")(Model.TestCase)
TestReady.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


@pytest.mark.fact("A14")
@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(PERSONAS, st.floats(0.1, 5), min_size=2),
    st.integers(1, 3),
    st.dictionaries(PERSONAS, st.just(True), max_size=3),
)
def test_however_eager_others_are_nobody_waits_for_longer_than_its_turn(
    intervals: dict[str, float], window: int, urgent: dict[str, bool]
) -> None:
    """Each comes due again an interval after its turn; few have a turn in a second."""
    ready = Ready()
    due = dict.fromkeys(intervals, 0.0)
    longest = 0.0
    for second in range(60):
        for persona in [p for p, at in due.items() if at <= second]:
            ready.add(persona, second, persona in urgent)
            del due[persona]
        longest = max(longest, ready.longest_wait(second))
        for persona in ready.take(window):
            due[persona] = second + intervals[persona]
    assert longest <= 4 / 3 * len(intervals) / window + 2, "a round of all, lengthened by the urgent quarter"


@pytest.mark.fact("A12")
def test_an_urgent_persona_goes_first_though_it_came_last() -> None:
    ready = Ready()
    for persona in "abcdef":
        ready.add(persona, 0.0)
    ready.add("u", 1.0, urgent=True)
    assert ready.take(2) == ["u", "a"]


@pytest.mark.fact("A12")
def test_something_urgent_for_who_waits_already_takes_it_ahead() -> None:
    ready = Ready()
    for persona in "abc":
        ready.add(persona, 0.0)
    ready.add("c", 5.0, urgent=True)
    ready.add("c", 6.0)
    assert ready.take(3) == ["c", "a", "b"]


@pytest.mark.fact("A14")
def test_of_many_urgent_ones_one_in_four_goes_ahead_while_others_wait() -> None:
    ready = Ready()
    for persona in "abcdefg":
        ready.add(persona, 0.0)
    for persona in "UVWXYZ":
        ready.add(persona, 1.0, urgent=True)
    assert "".join(ready.take(20)) == "UabcVdefWgXYZ"


@pytest.mark.fact("A12")
def test_where_only_urgent_ones_wait_they_go_in_the_order_in_which_they_became_so() -> None:
    ready = Ready()
    for persona in "abc":
        ready.add(persona, 0.0)
    for persona in "cba":
        ready.add(persona, 1.0, urgent=True)
    assert "".join(ready.take(3)) == "cba"


@pytest.mark.fact("A14")
def test_urgent_ones_that_came_first_have_their_turn_and_one_may_go_ahead_still() -> None:
    ready = Ready()
    for persona in "UV":
        ready.add(persona, 0.0, urgent=True)
    for persona in "abc":
        ready.add(persona, 1.0)
    ready.add("W", 2.0, urgent=True)
    assert "".join(ready.take(20)) == "UVWabc"


def test_nobody_waits_in_an_empty_one() -> None:
    ready = Ready()
    assert ready.take(3) == []
    assert ready.longest_wait(5.0) == 0.0
    ready.add("a", 1.0, urgent=True)
    ready.clear()
    assert (len(ready), ready.urgent, "a" in ready) == (0, 0, False)
