"""Personas that wait for others [A15]."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.dependencies import SILENT_INTERVALS, SILENT_S, Dependencies

AT = 1000.0


def nobody_is_reaped(_: str) -> bool:
    return False


@pytest.mark.fact("A15")
def test_who_waits_is_due_once_all_have_thought_since_its_own_last_thought() -> None:
    table = Dependencies(nobody_is_reaped)
    table.thought("ann", 3, AT)
    table.set("cy", ["ann", "bob"], 0.0, AT)
    assert table.unfinished("cy") == ["ann", "bob"]
    assert table.thought("ann", 4, AT) == ["cy"]
    assert table.unfinished("cy") == ["bob"]
    table.thought("bob", 1, AT)
    assert table.unfinished("cy") == []
    table.began("cy", 5.0, AT)
    assert table.unfinished("cy") == ["ann", "bob"], "it waits for their next ones"


@pytest.mark.fact("A15")
def test_what_was_thought_before_does_not_count_however_late_it_is_heard_of() -> None:
    table = Dependencies(nobody_is_reaped)
    table.thought("ann", 4, AT)
    table.set("cy", ["ann"], 0.0, AT)
    table.thought("ann", 4, AT)
    table.thought("ann", 3, AT)
    assert table.unfinished("cy") == ["ann"]


@pytest.mark.fact("A15")
def test_who_is_silent_for_too_long_is_given_up_once() -> None:
    table = Dependencies(nobody_is_reaped)
    table.set("cy", ["ann"], 0.0, AT)
    assert table.give_up("cy", SILENT_S - 1, 0.1) == []
    assert table.give_up("cy", SILENT_S, 2.0) == [], "longer intervals, more patience"
    assert table.give_up("cy", SILENT_INTERVALS * 2.0, 2.0) == [("ann", False)]
    assert table.give_up("cy", 1e6, 2.0) == []
    assert table.unfinished("cy") == []
    assert not table.complete("cy")
    table.began("cy", 1e6, AT)
    assert table.unfinished("cy") == [], "it is silent still"
    table.thought("ann", 1, AT)
    assert table.complete("cy"), "it thinks again"
    table.began("cy", 1e6, AT)
    assert table.unfinished("cy") == ["ann"], "and is waited for again"


@pytest.mark.fact("A15")
def test_who_is_reaped_is_given_up_at_once() -> None:
    table = Dependencies(lambda name: name == "ann")
    table.set("cy", ["ann", "bob"], 0.0, AT)
    assert table.give_up("cy", 0.1, 2.0) == [("ann", True)]
    assert table.unfinished("cy") == ["bob"]
    table.thought("bob", 1, AT)
    assert table.complete("cy")
    table.began("cy", 1.0, AT)
    assert table.unfinished("cy") == ["bob"]
    assert table.give_up("cy", 2.0, 2.0) == [], "said once"


@pytest.mark.fact("A15")
def test_a_wait_is_complete_when_the_last_has_thought() -> None:
    table = Dependencies(nobody_is_reaped)
    assert not table.complete("cy"), "it waits for nobody"
    table.set("cy", ["ann", "bob"], 0.0, AT)
    assert not table.complete("cy")
    table.thought("ann", 1, AT)
    assert not table.complete("cy")
    table.thought("bob", 1, AT)
    assert table.complete("cy")


@pytest.mark.fact("A15")
def test_what_was_thought_since_its_own_last_thought_is_recalled_after_a_takeover() -> None:
    """The new owner has heard nothing; it reads each one's last thought, and when that was stored."""
    table = Dependencies(nobody_is_reaped)
    table.set("cy", ["ann", "bob"], 0.0, AT)
    table.recalled("ann", 7, AT - 1)
    assert table.unfinished("cy") == ["ann", "bob"], "that was before"
    assert table.recalled("ann", 8, AT + 1) == ["cy"]
    table.recalled("bob", 1, AT + 1)
    assert table.complete("cy")
    table.set("dee", ["ann"], 0.0, AT)
    assert table.complete("dee"), "it is known already"
    table.set("eve", ["ann"], 0.0, AT + 2)
    assert table.unfinished("eve") == ["ann"]


@pytest.mark.fact("A15")
def test_what_is_heard_as_it_comes_counts_also_where_a_clock_was_set_back() -> None:
    table = Dependencies(nobody_is_reaped)
    table.recalled("ann", 3, AT - 9)
    table.set("cy", ["ann"], 0.0, AT)
    table.thought("ann", 4, AT - 3600)
    assert table.complete("cy")
    table.recalled("ann", 4, AT + 1)
    assert table.complete("cy"), "nor does reading it again change that"


NAMES = st.sampled_from("abcd")


@pytest.mark.fact("A15")
@given(st.lists(st.tuples(NAMES, st.sets(NAMES, max_size=3)), max_size=12))
def test_everybody_who_waits_is_told_and_nobody_else(changes: list[tuple[str, set[str]]]) -> None:
    table, wanted = Dependencies(nobody_is_reaped), {}
    for name, waiting_for in changes:
        table.set(name, waiting_for, 0.0, AT)
        wanted[name] = waiting_for
    for name in "abcd":
        assert table.thought(name, 1, AT) == sorted(who for who, whom in wanted.items() if name in whom)
    assert table.waited_for == {name for whom in wanted.values() for name in whom}
    assert all(table.unfinished(name) == [] for name in "abcd")
