"""How many thoughts may be under way at once [A13]."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.window import LEAST, LOAD_MOST, MOST, TARGET_S, Window


@pytest.mark.fact("A13")
@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 10_000), st.floats(0, 2)), max_size=200))
def test_the_window_stays_within_its_bounds(seen: list[tuple[float, int, float]]) -> None:
    window, now = Window(), 0.0
    for waited, under_way, passed in seen:
        now += passed
        window.waited(waited, under_way, now)
        assert LEAST <= window.size <= MOST
        assert 1.0 <= window.load(waited, 2.0, under_way) <= LOAD_MOST


@pytest.mark.fact("A13")
@pytest.mark.parametrize("rate", [5.0, 40.0, 400.0])
def test_the_queue_comes_to_wait_about_as_long_as_is_aimed_at(rate: float) -> None:
    """Thinkers that think so many a second, and always more due than that: a fluid model of the queue."""
    window, now, waits = Window(), 0.0, []
    while now < 120:
        waited = max(window.size / rate - 0.1, 0.0)
        window.waited(waited, window.size, now)
        now += max(1 / rate, 0.01)
        if now > 60:
            waits.append(waited)
    assert sum(waits) / len(waits) < 3 * max(TARGET_S, LEAST / rate)
    assert window.size >= min(rate * TARGET_S / 2, LEAST)


@pytest.mark.fact("A13")
def test_a_window_that_nobody_fills_does_not_grow() -> None:
    window = Window(64)
    for n in range(100):
        window.waited(0.0, 3, float(n))
    assert window.size == 64


@pytest.mark.fact("A13")
def test_load_stretches_waits_once_those_who_are_due_wait_longer_than_an_interval() -> None:
    window = Window()
    assert window.load(0.0, 2.0, 1) == 1.0
    assert window.load(1.9, 2.0, 1) == 1.0
    assert window.load(6.0, 2.0, 1) == 3.0
    assert window.load(1e6, 2.0, 1) == LOAD_MOST


@pytest.mark.fact("A13")
def test_a_load_is_over_once_nothing_is_under_way_though_no_grant_says_so() -> None:
    """Else the last long wait would stretch everybody's waits, and leave low priority aside, for good."""
    window = Window()
    for second in range(20):
        window.waited(6.0, 60, float(second))
    assert window.load(0.0, 1.0, 60) > 4.0
    assert window.load(0.0, 1.0, 0) == 1.0
    assert window.load(0.0, 1.0, 3) == 1.0, "it begins anew"
