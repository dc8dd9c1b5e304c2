"""What waits while the system is under load, and is caught up with afterwards [A13]. Clocks are given."""

from __future__ import annotations

from itertools import count, islice
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.contracts.limits import ITEMS_A_THOUGHT
from services.scheduler.cadence import wait
from services.scheduler.inbox import AGED_S, Held, Inbox
from services.scheduler.inner_state import Mood
from services.scheduler.ledger import Ledger, PersonaLedger
from services.scheduler.mail import Standing
from services.scheduler.ready import Ready
from services.scheduler.taking import EVERYTHING, Takes
from services.scheduler.turns import LOADED, LOW
from services.scheduler.window import Window
from tests.unit.make import inbox_item


class Clock:
    """Both clocks of `Takes`, in seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def takes(clock: Clock) -> Takes:
    return Takes(adaptive=True, clock=clock, wall=clock)


def holding(clock: Clock, *priorities: int) -> PersonaLedger:
    """A rested persona with one item of each priority, in hundredths, all just arrived."""
    ledger = Ledger(0, clock)
    entry = ledger.persona("p")
    ledger.life("p")
    entry.inbox = Inbox()
    for sequence, base in enumerate(priorities, start=1):
        entry.inbox.add(Held(sequence, Standing(base), clock(), inbox_item(id=f"i-{base}")), clock())
    return entry


def taken(takes: Takes, entry: PersonaLedger) -> list[str]:
    found = [item.id for item in takes.of(entry)]
    assert entry.inbox is not None
    for sequence in [held.sequence for held in entry.inbox if held.item.id in found]:
        entry.inbox.remove(sequence)
    return found


@pytest.mark.fact("A13")
def test_under_load_items_of_low_priority_wait_and_others_do_not(clock: Clock, takes: Takes) -> None:
    entry = holding(clock, 20, 29, 31, 90)
    takes.least = LOW
    assert taken(takes, entry) == ["i-90", "i-31"]
    assert not takes.has_any(entry), "no reason to think, either"
    takes.least = EVERYTHING
    assert taken(takes, entry) == ["i-29", "i-20"], "once the load is over they are caught up with at once"


@pytest.mark.fact("A13")
@pytest.mark.fact("A4")
@given(st.integers(0, 100))
def test_even_under_load_that_never_ends_an_item_waits_for_18_seconds_at_most(base: int) -> None:
    """Waiting adds fifty hundredths in 30 s, of which thirty are enough."""
    clock = Clock()
    takes = Takes(adaptive=True, clock=clock, wall=clock)
    entry = holding(clock, base)
    takes.least = LOW
    waited = 0.0
    while not takes.has_any(entry):
        clock.now += 0.25
        waited += 0.25
    assert waited <= 0.6 * AGED_S + 0.25
    if base <= LOW:
        assert waited == pytest.approx((LOW - base) * 0.6, abs=0.26)


@pytest.mark.fact("A9")
@pytest.mark.fact("A13")
def test_load_lowers_no_mood_s_threshold(clock: Clock, takes: Takes) -> None:
    """Who is overwhelmed engages with nothing up to 70, load or not."""
    entry = holding(clock, *[60] * 60, 75)
    before = takes.above(entry)
    takes.least = LOW
    assert takes.above(entry) == before == 70


@pytest.mark.fact("A4")
@pytest.mark.fact("A8")
@pytest.mark.fact("A9")
def test_who_is_overwhelmed_by_what_is_of_low_priority_comes_out_of_it(clock: Clock, takes: Takes) -> None:
    """Waiting makes 70 of 20 at most, and 70 is not above 70: by the thresholds alone it would stay so."""
    entry = holding(clock, *range(61))
    assert entry.inbox is not None and entry.life is not None
    clock.now += AGED_S - 0.5
    assert {item.id for item in takes.of(entry)} == {f"i-{base}" for base in range(51, 61)}
    entry.inbox = holding(clock, *[20] * 60).inbox
    assert entry.inbox is not None
    clock.now += AGED_S - 0.5
    assert not takes.has_any(entry)
    clock.now += 0.5
    for left in (50, 40, 30, 20, 10, 0):
        for item in takes.of(entry):
            entry.inbox.remove(item.sequence)
        assert len(entry.inbox) == left
    assert entry.life.state.mood(0, clock.now) is Mood.IDLE


@pytest.mark.fact("A4")
@pytest.mark.fact("A9")
@pytest.mark.fact("A13")
@settings(deadline=None)
@given(
    bases=st.lists(st.integers(0, 100), min_size=1, max_size=60),
    energy=st.floats(0.1, 1.0),
    responds=st.booleans(),
    took_ms=st.integers(0, 20_000),
    flood=st.integers(0, 12),
    loaded=st.booleans(),
)
def test_in_no_mood_at_no_load_and_no_energy_does_an_item_starve(
    bases: list[int], energy: float, responds: bool, took_ms: int, flood: int, loaded: bool
) -> None:
    """Thoughts follow each other without rest, better items keep coming: each takes the oldest, at least."""
    clock = Clock()
    takes = Takes(adaptive=True, clock=clock, wall=clock)
    takes.least = LOW if loaded else EVERYTHING
    entry = holding(clock, *bases)
    inbox, state = entry.inbox, entry.life.state if entry.life is not None else None
    assert inbox is not None and state is not None
    waiting = set(range(1, len(bases) + 1))
    clock.now += AGED_S
    state.energy, state.last_activity = energy, clock.now
    sequences = count(len(bases) + 1)
    for _ in range(len(bases) if flood else ceil(len(bases) / ITEMS_A_THOUGHT)):
        for sequence in islice(sequences, flood):
            inbox.add(Held(sequence, Standing(100), clock(), inbox_item()), clock())
        taken_up = takes.of(entry)
        for item in taken_up:
            inbox.remove(item.sequence)
            waiting.discard(item.sequence)
        clock.now += took_ms / 1000
        state.thought(clock.now, took_ms, len(taken_up), responds)
    assert not waiting


@pytest.mark.fact("A13")
def test_when_load_ends_everybody_s_wait_is_what_it_was_and_all_that_waited_have_turns() -> None:
    """A hundred are due at once, and five thoughts a second are begun; then nobody is due any more."""
    window, ready, now, loads = Window(), Ready(), 0.0, []
    for number in range(100):
        ready.add(f"p-{number}", 0.0)
    while ready:
        now += 1.0
        loads.append(window.load(ready.longest_wait(now), 1.0, 5))
        ready.take(5)
        window.waited(0.2, 5, now)
    assert len(loads) == 20
    assert max(loads) > LOADED
    stretched = wait(Mood.IDLE, 1.0, 1.0, 0, 0, max(loads))
    rested = wait(Mood.IDLE, 1.0, 1.0, 0, 0, window.load(ready.longest_wait(now), 1.0, 0))
    assert rested == 0.6 < stretched
