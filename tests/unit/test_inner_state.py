"""Energy, attention, mood, and what a persona takes up [A6–A9]."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.inner_state import FLOOR, InnerState, Mood, threshold

T = 1_760_000_000.0
SHARE = st.floats(0, 1)


def tired(energy: float = 0.2) -> InnerState:
    return InnerState(energy, 1.0, T)


@pytest.mark.fact("A6")
def test_a_new_persona_is_rested_and_idle() -> None:
    state = InnerState()
    assert (state.energy_at(T), state.attention_at(T), state.response_count(T)) == (1.0, 1.0, 0)
    assert state.mood(0, T) is Mood.IDLE


@pytest.mark.fact("A7")
@pytest.mark.parametrize(
    ("took_ms", "items", "left"),
    [(4000, 0, 0.9), (1000, 1, 0.9), (1000, 3, 0.7), (2000, 10, FLOOR), (10**9, 0, FLOOR), (0, 5, 1.0)],
)
def test_work_costs_energy_by_its_time_and_its_items(took_ms: float, items: int, left: float) -> None:
    state = InnerState()
    state.thought(T, took_ms, items, False)
    assert state.energy_at(T) == pytest.approx(left)
    assert state.last_activity == T


@pytest.mark.fact("A7")
def test_attention_wanes_with_each_thought_below_three_tenths() -> None:
    state = InnerState()
    state.thought(T, 7000, 1, False)
    assert state.attention == 1.0, "0.3 is not below 0.3"
    state.thought(T, 100, 1, False)
    state.thought(T, 100, 1, False)
    assert state.attention == pytest.approx(0.81)


@pytest.mark.fact("A7")
def test_rest_gives_energy_back_and_attention_twice_as_fast() -> None:
    state = InnerState(0.2, 0.5, T)
    assert state.energy_at(T + 4) == pytest.approx(0.4)
    assert state.attention_at(T + 4) == pytest.approx(0.9)
    assert (state.energy_at(T + 90), state.attention_at(T + 90)) == (1.0, 1.0)


@pytest.mark.fact("A7")
def test_the_time_of_the_thought_itself_is_no_rest() -> None:
    state = InnerState(0.5, 1.0, T)
    state.thought(T + 3, 1000, 1, False)
    assert state.energy_at(T + 3) == pytest.approx(0.5 + 2 / 20 - 0.1)


@pytest.mark.fact("A7")
@given(st.floats(FLOOR, 1), SHARE, st.lists(st.floats(0, 30), max_size=20))
def test_rest_is_elapsed_time_counted_once_whoever_reads_when(
    energy: float, attention: float, reads: list[float]
) -> None:
    """Reading changes nothing; and resting in pieces comes to the same as resting at once."""
    state = InnerState(energy, attention, T)
    for after in reads:
        state.energy_at(T + after), state.attention_at(T + after), state.mood(3, T + after)
    assert state.dump() == (energy, attention, T)
    begin, pieces, pieces_attention = T, energy, attention
    for after in sorted(reads):
        pieces = min(1.0, pieces + (T + after - begin) / 20)
        pieces_attention = min(1.0, pieces_attention + (T + after - begin) / 10)
        begin = T + after
    assert state.energy_at(begin) == pytest.approx(pieces)
    assert state.attention_at(begin) == pytest.approx(pieces_attention)


@pytest.mark.fact("A7")
@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(0, 60_000), st.integers(0, 10), st.booleans()), max_size=30
    )
)
def test_energy_and_attention_stay_within_their_bounds(
    thoughts: list[tuple[float, float, int, bool]],
) -> None:
    state, now = InnerState(), T
    for pause, took_ms, items, responded in thoughts:
        now += pause
        state.thought(now, took_ms, items, responded)
        assert FLOOR <= state.energy_at(now) <= 1.0
        assert 0.0 <= state.attention_at(now) <= 1.0
        assert InnerState.load(state.dump()).dump() == state.dump()


@pytest.mark.fact("A7")
@given(st.floats(0, 59), st.floats(0, 60))
def test_a_thought_by_a_clock_that_is_behind_gives_no_rest_twice(behind: float, later: float) -> None:
    state = tired(0.5)
    state.thought(T - behind, 1000, 1, False)
    assert state.last_activity == T
    assert state.energy_at(T + later) == pytest.approx(min(1.0, 0.4 + later / 20))


@pytest.mark.fact("A7")
def test_a_clock_that_is_set_back_does_not_stop_anybody_from_resting() -> None:
    state = tired()
    assert state.energy_at(T - 3600) == 1.0
    state.thought(T - 3600, 4000, 1, True)
    assert state.energy_at(T - 3600) == pytest.approx(0.6)
    assert state.energy_at(T - 3598) == pytest.approx(0.7)
    assert state.response_count(T - 3598) == 1


@pytest.mark.fact("A6")
@given(st.lists(st.floats(0, 40), max_size=30), st.floats(0, 100))
def test_responses_of_the_last_60_seconds_count(pauses: list[float], after: float) -> None:
    state, now, when = InnerState(), T, []
    for pause in pauses:
        now += pause
        state.thought(now, 1, 0, True)
        when.append(now)
    assert state.response_count(now + after) == sum(then > now + after - 60 for then in when)


@pytest.mark.fact("A8")
@pytest.mark.parametrize(
    ("energy", "responded", "load", "mood"),
    [
        (1.0, True, 51, Mood.OVERWHELMED),
        (0.1, False, 51, Mood.OVERWHELMED),
        (0.29, True, 50, Mood.TIRED),
        (0.3, True, 0, Mood.IDLE),
        (0.5, True, 0, Mood.IDLE),
        (0.51, True, 0, Mood.ACTIVE),
        (0.51, False, 0, Mood.IDLE),
        (1.0, False, 50, Mood.IDLE),
    ],
)
def test_a_mood_is_the_first_that_holds(energy: float, responded: bool, load: int, mood: Mood) -> None:
    state = InnerState(energy, 1.0, T, (T,) if responded else ())
    assert state.mood(load, T) is mood


@pytest.mark.fact("A8")
def test_a_mood_passes_without_anything_being_done() -> None:
    state = tired(0.2)
    assert [state.mood(0, T + after) for after in (0, 1, 3)] == [Mood.TIRED, Mood.TIRED, Mood.IDLE]
    busy = InnerState(1.0, 1.0, T, (T,))
    assert [busy.mood(0, T + after) for after in (59, 61)] == [Mood.ACTIVE, Mood.IDLE]


@pytest.mark.fact("A9")
@pytest.mark.parametrize(
    ("mood", "energy", "lowest"),
    [
        (Mood.OVERWHELMED, 1.0, 71),
        (Mood.TIRED, 0.25, 51),
        (Mood.TIRED, 0.2, 81),
        (Mood.ACTIVE, 0.6, 31),
        (Mood.IDLE, 0.6, 11),
    ],
)
def test_who_engages_with_what(mood: Mood, energy: float, lowest: int) -> None:
    engages_above = threshold(mood, energy)
    assert [priority > engages_above for priority in (lowest - 1, lowest, 150)] == [False, True, True]


@pytest.mark.fact("A9")
@given(st.sampled_from(Mood), SHARE)
def test_what_is_above_80_is_always_taken_up(mood: Mood, energy: float) -> None:
    assert threshold(mood, energy) <= 80
