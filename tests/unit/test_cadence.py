"""How long a persona waits until it looks again [A10, A11, A13]."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.cadence import wait
from services.scheduler.inner_state import Mood

MOODS = st.sampled_from(Mood)
COUNTS = st.integers(0, 10**6)


def waited(
    mood: Mood = Mood.ACTIVE,
    interval_s: float = 2.0,
    budget: float = 1.0,
    failures: int = 0,
    idle: int = 0,
    load: float = 1.0,
) -> float:
    return wait(mood, interval_s, budget, failures, idle, load)


@pytest.mark.fact("A10")
def test_a_mood_has_its_wait_in_units_of_the_interval() -> None:
    moods = (Mood.OVERWHELMED, Mood.TIRED, Mood.ACTIVE, Mood.IDLE)
    assert [waited(mood, 5.0) for mood in moods] == pytest.approx([10.0, 7.0, 5.0, 3.0])


@pytest.mark.fact("A10")
def test_who_is_short_of_credits_waits_twice_as_long() -> None:
    assert [waited(budget=left) for left in (1.0, 0.5, 0.49, 0.0)] == [2.0, 2.0, 4.0, 4.0]


@pytest.mark.fact("A10")
def test_failures_double_the_wait_up_to_16() -> None:
    assert [waited(failures=count) / 2 for count in range(7)] == [1, 2, 4, 8, 16, 16, 16]


@pytest.mark.fact("A11")
def test_idle_cycles_double_the_wait_up_to_32() -> None:
    assert [waited(idle=count) / 2 for count in range(8)] == [1, 2, 4, 8, 16, 32, 32, 32]


@pytest.mark.fact("A13")
@given(MOODS, st.floats(0.2, 86_400), st.floats(1, 100))
def test_load_stretches_everybody_s_wait(mood: Mood, interval_s: float, load: float) -> None:
    assert waited(mood, interval_s, load=load) == pytest.approx(load * waited(mood, interval_s))


@pytest.mark.fact("A10")
@given(MOODS, st.floats(0, 86_400), st.floats(0, 1), COUNTS, COUNTS, st.floats(0, 100))
def test_a_wait_has_its_bounds_and_nothing_shortens_it(
    mood: Mood, interval_s: float, budget: float, failures: int, idle: int, load: float
) -> None:
    found = waited(mood, interval_s, budget, failures, idle, load)
    assert 0.1 <= found <= max(0.1, interval_s * 2 * 2 * 16 * 32 * max(load, 1.0))
    assert found <= waited(mood, interval_s, budget, failures + 1, idle, load)
    assert found <= waited(mood, interval_s, budget, failures, idle + 1, load)
    assert found >= waited(mood, interval_s, 1.0, 0, 0, 1.0)
