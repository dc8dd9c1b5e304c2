"""How the sources of a prompt share what room there is [H13]."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.thinker.allocation import (
    CONTEXT,
    DROPPED,
    FLOOR,
    INBOX,
    ORDER,
    SATISFIED,
    SHARED,
    Share,
    Source,
    allocate,
    floor_of,
    leading,
)

SIZES = st.lists(st.integers(1, 60), max_size=12)


def sources(inbox: list[int], context: list[int], shared: list[int]) -> dict[str, Source]:
    return {INBOX: Source(inbox, may_skip=True), CONTEXT: Source(context), SHARED: Source(shared)}


def sizes(source: Source, share: Share) -> list[int]:
    return [source.sizes[unit] for unit in share.taken]


@pytest.mark.fact("H13")
def test_each_source_has_its_floor_and_what_is_left_goes_round() -> None:
    """Of 40 each has 10; the other 10 go to the inbox, the context and the inbox again."""
    found = allocate(sources([4, 4, 4, 4, 4], [5, 5, 3, 3], [9, 9]), 40, 10)
    assert {name: share.taken for name, share in found.items()} == {
        INBOX: [0, 1, 2, 3],
        CONTEXT: [0, 1, 2],
        SHARED: [0],
    }
    assert {name: share.allocation for name, share in found.items()} == dict.fromkeys(ORDER, FLOOR)


@pytest.mark.fact("H13")
def test_an_allocation_is_said_in_a_word() -> None:
    found = allocate(sources([1], [30, 30], [10]), 40, floor_of(40))
    assert [found[name].allocation for name in ORDER] == [SATISFIED, FLOOR, DROPPED]


@pytest.mark.fact("H13")
def test_a_unit_is_hopeless_where_it_has_no_room_beside_the_floors_of_others() -> None:
    assert allocate(sources([31], [5, 5], [5, 5]), 40, 5)[INBOX].hopeless == [0]
    assert allocate(sources([30], [5, 5], [5, 5]), 40, 5)[INBOX].taken == [0]
    assert allocate(sources([30, 30], [5, 5], [5, 5]), 40, 5)[INBOX].hopeless == [], (
        "the second comes next time"
    )


@pytest.mark.fact("H13")
def test_a_message_too_long_for_now_is_passed_over_and_an_event_is_not() -> None:
    found = allocate(sources([100, 3], [100, 3], []), 40, floor_of(40))
    assert (found[INBOX].taken, found[CONTEXT].taken) == ([1], [])
    assert found[INBOX].hopeless == [0]


@pytest.mark.fact("H13")
@given(SIZES, SIZES, SIZES, st.integers(-20, 400))
def test_whatever_there_is_floors_hold_nothing_is_cut_and_no_room_is_wasted(
    inbox: list[int], context: list[int], shared: list[int], room: int
) -> None:
    given_sources, floor = sources(inbox, context, shared), floor_of(room)
    found = allocate(given_sources, room, floor)
    used = sum(sum(sizes(source, found[name])) for name, source in given_sources.items())
    assert used <= max(room, 0)
    for name, source in given_sources.items():
        share = found[name]
        assert share.taken[: len(leading(source.sizes, floor))] == list(
            range(len(leading(source.sizes, floor)))
        )
        assert share.taken == sorted(set(share.taken))
        left = [unit for unit in range(share.units) if unit not in share.taken]
        if not source.may_skip:
            assert share.taken == list(range(len(share.taken))), (
                "no unit is told that is worse than one left out"
            )
            left = left[:1]
        assert all(source.sizes[unit] > max(room, 0) - used for unit in left), "what fits is told"
        assert set(share.hopeless) <= set(range(share.units)) - set(share.taken)
        word = SATISFIED if not len(source.sizes) - len(share.taken) else FLOOR if share.taken else DROPPED
        assert share.allocation == word


@pytest.mark.fact("H13")
@given(SIZES.filter(bool), SIZES, SIZES, st.integers(0, 400))
def test_some_message_is_told_or_every_one_is_hopeless(
    inbox: list[int], context: list[int], shared: list[int], room: int
) -> None:
    """So no message is put back for ever without anybody being told."""
    found = allocate(sources(inbox, context, shared), room, floor_of(room))[INBOX]
    assert found.taken or found.hopeless == list(range(len(inbox)))


@pytest.mark.fact("H12")
@given(SIZES, st.integers(0, 400))
def test_a_source_alone_has_all_the_room_in_its_own_order(context: list[int], room: int) -> None:
    found = allocate(sources([], context, []), room, floor_of(room))[CONTEXT]
    assert sizes(Source(context), found) == leading(context, room)


@given(SIZES, SIZES, SIZES, st.integers(0, 100), st.integers(0, 400))
def test_messages_have_their_floor_first_where_there_is_less_room_than_the_floors_need(
    inbox: list[int], context: list[int], shared: list[int], room: int, floor: int
) -> None:
    found = allocate(sources(inbox, context, shared), room, floor)
    first = leading(inbox, min(floor, room))
    assert found[INBOX].taken[: len(first)] == list(range(len(first)))
