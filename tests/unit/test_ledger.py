"""What a shard's journal says [2.9, 3.3, 4.2]."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cognition.context import Recent, context_line
from libs.contracts.work import Counters
from libs.journal.tail import JournalHole
from services.scheduler.ledger import Ledger
from tests.unit.make import NOW, line, lines, shard_record, thought


def at(count: int) -> datetime:
    return NOW + timedelta(seconds=count)


@pytest.mark.fact("3.3")
def test_thoughts_count_up_and_carry_their_tick() -> None:
    ledger = Ledger(0)
    ledger.fold(5, shard_record(thought("p", 1), thought("q", 1), number=1))
    ledger.fold(6, shard_record(thought("p", 2), number=2))
    assert ledger.counters(["p", "q", "nobody"]) == [
        Counters(2, at(2)),
        Counters(1, at(1)),
        Counters(0, None),
    ]
    assert ledger.last_tick_at == at(2)


@pytest.mark.fact("3.3")
@given(
    st.integers(0, 6),
    st.booleans(),
    st.sampled_from(["p", "q"]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 9),
)
def test_only_the_next_thought_of_a_living_persona_in_a_run_that_is_not_over_is_admitted(
    stored: int, reaped: bool, persona_id: str, halted: int, run: int, count: int
) -> None:
    ledger = Ledger(0)
    for number in range(1, stored + 1):
        ledger.fold(number, shard_record(thought("p", number), number=number))
    if reaped:
        ledger.fold(20, shard_record(number=None, reap=["p"]))
    if halted:
        ledger.fold(21, shard_record(number=None, halt=halted))
    has = stored if persona_id == "p" else 0
    expected = count == has + 1 and run > halted and not (reaped and persona_id == "p")
    assert ledger.admits(thought(persona_id, count, run)) == expected


@pytest.mark.fact("3.3")
def test_a_hole_in_the_record_numbers_is_an_error() -> None:
    ledger = Ledger(7)
    ledger.fold(1, shard_record(number=1))
    with pytest.raises(JournalHole, match=r"j\.7: record 2 is missing, 3 follows"):
        ledger.fold(2, shard_record(number=3))


@pytest.mark.fact("3.3")
def test_a_hole_in_a_persona_s_thoughts_is_an_error() -> None:
    ledger = Ledger(7)
    ledger.fold(1, shard_record(thought("p", 1), number=1))
    with pytest.raises(JournalHole, match=r"j\.7, thoughts of p: record 2 is missing, 3 follows"):
        ledger.fold(2, shard_record(thought("p", 3), number=2))


def test_markers_have_no_number_and_make_no_hole() -> None:
    ledger = Ledger(0)
    ledger.fold(1, shard_record(number=1))
    ledger.fold(2, shard_record(number=None, halt=3, reap=["p"]))
    ledger.fold(3, shard_record(number=2))
    assert (ledger.number, ledger.halted, ledger.reaped) == (2, 3, {"p"})


def test_a_halt_never_goes_back() -> None:
    ledger = Ledger(0)
    ledger.fold(1, shard_record(number=1, halt=5))
    ledger.fold(2, shard_record(number=None, halt=4))
    assert ledger.halted == 5


def test_a_claim_says_who_owns_the_shard() -> None:
    ledger = Ledger(0)
    ledger.fold(1, shard_record(number=1))
    assert ledger.claimed_by == ""
    ledger.fold(2, shard_record(number=2, claim=True))
    assert ledger.claimed_by == "owner"


@pytest.mark.fact("3.3")
@given(st.integers(0, 12), st.integers(0, 12))
def test_folding_skips_what_a_checkpoint_held_already(checkpointed: int, newer_page: int) -> None:
    """A page may be newer than the head beside it: an owner died between storing the two."""
    records = [shard_record(thought("p", n), thought("q", n), number=n) for n in range(1, 13)]
    ledger = Ledger(0)
    ledger.number = checkpointed
    ledger.restore("p", checkpointed, None)
    ledger.restore("q", max(checkpointed, newer_page), None)
    for sequence, record in enumerate(records, start=1):
        ledger.fold(sequence, record)
    assert [c.thought_count for c in ledger.counters(["p", "q"])] == [12, 12]
    assert ledger.number == 12


def test_what_changed_is_told_once_unless_it_is_put_back() -> None:
    ledger = Ledger(0)
    ledger.fold(1, shard_record(thought("p", 1), number=1))
    assert ledger.take_changed() == {"p"}
    assert ledger.take_changed() == set()
    ledger.fold(2, shard_record(thought("q", 1), number=2))
    ledger.put_back_changed({"p"})
    assert ledger.take_changed() == {"p", "q"}


@pytest.mark.fact("3.5")
def test_a_thought_s_events_are_its_context_in_order() -> None:
    ledger = Ledger(0)
    first, second = thought("p", 2), thought("q", 3)
    ledger.restore("p", 1, None)
    ledger.restore("q", 2, None)
    ledger.fold(4, shard_record(first, second, number=1))
    assert lines(ledger.context("p", Recent())) == [context_line(event) for _, event in first.events]
    places = [event.place for event in ledger.persona("q").recent]
    assert places == [(4, 3), (4, 4)], "numbered within the whole record, as the public stream does"


@pytest.mark.fact("3.5")
def test_events_that_the_stream_held_are_not_remembered_twice() -> None:
    """Take-over: the event stream is read up to (4, 1); the journal is folded from before that."""
    ledger = Ledger(0)
    record, later = thought("p", 2), thought("p", 3)
    held = Recent()
    ledger.restore("p", 1, None)
    held.add((4, 1), context_line(record.events[0][1]))
    ledger.install({"p": held}, (4, 1))
    ledger.fold(4, shard_record(record, number=1))
    ledger.fold(5, shard_record(later, number=2))
    assert [event.place for event in ledger.persona("p").recent] == [(4, 1), (4, 2), (5, 1), (5, 2)]


@pytest.mark.fact("3.5")
def test_an_event_that_comes_late_or_again_is_left_out() -> None:
    ledger = Ledger(0)
    entry = ledger.persona("p")
    for place in [(3, 1), (3, 2), (3, 2), (2, 9), (4, 1)]:
        entry.remember(place, line(place[0] * 10 + place[1]))
    assert [event.place for event in entry.recent] == [(3, 1), (3, 2), (4, 1)]


def test_a_tick_that_came_later_is_not_set_back_by_the_thought_of_an_earlier_one() -> None:
    ledger = Ledger(0)
    ledger.persona("p").last_tick_at = NOW + timedelta(hours=1)
    ledger.fold(1, shard_record(thought("p", 1), number=1))
    assert ledger.persona("p").last_tick_at == NOW + timedelta(hours=1)
