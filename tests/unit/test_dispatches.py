"""What is being thought for a shard [3.2, 3.3, 4.2]."""

from __future__ import annotations

from math import inf

import pytest
from msgspec import structs

from libs.contracts.limits import MAX_DELIVER, TOGETHER
from libs.contracts.work import Chunk, GrantRequest
from services.scheduler.dispatches import HEARD_S, PREVIOUS_OWNER, Dispatches, Granted
from tests.unit.make import chunk, entry


def ask(of: Chunk, sequence: int, thinker: str = "t1", deliveries: int = 1) -> GrantRequest:
    return GrantRequest(chunk=of.id, shard=0, sequence=sequence, deliveries=deliveries, thinker=thinker)


def grant(table: Dispatches, of: Chunk, sequence: int, run: int | None = 1, thinker: str = "t1") -> list[int]:
    return list(table.grant(ask(of, sequence, thinker), run, 10.0, -inf).dues)


def test_every_wanted_item_of_a_chunk_is_granted() -> None:
    table, work = Dispatches(), chunk("c", "a", "b")
    table.begin(*entry(work), 0.0, 5)
    assert grant(table, work, 5) == [0, 1]
    assert len(table) == 2


def test_what_is_settled_meanwhile_is_not_granted() -> None:
    table, work = Dispatches(), chunk("c", "a", "b", "c")
    table.begin(*entry(work), 0.0, 5)
    table.forget(["b"])
    assert grant(table, work, 5) == [0, 2]


def test_what_another_thinker_still_thinks_of_is_not_granted_until_that_one_is_silent() -> None:
    table, work = Dispatches(), chunk("c", "a")
    table.begin(*entry(work), 0.0, 5)
    assert list(table.grant(ask(work, 5, "t1"), 1, 10.0, -inf).dues) == [0]
    again = ask(work, 5, "t2", deliveries=2)
    table.heard("c", "t1", 12.0)
    table.heard("c", "t2", 12.0 + HEARD_S)
    held = table.grant(again, 1, 12.0 + HEARD_S - 0.1, -inf)
    assert (held.dues, held.held_by) == ({}, "t1")
    assert list(table.grant(ask(work, 5, "t1", deliveries=2), 1, 12.5, -inf).dues) == [0], "it had it itself"
    assert table.grant(again, 1, 20.1, since=20.0).held_by == "t1", "before, nobody could be heard"
    granted = table.grant(again, 1, 20.0 + HEARD_S, since=20.0)
    assert (list(granted.dues), granted.held_by) == ([0], None)


def test_a_first_delivery_is_granted_at_once_whoever_owned_the_shard_before() -> None:
    table, work = Dispatches(), chunk("c", "a")
    table.begin(*entry(work), 0.0, 5).granted_to = PREVIOUS_OWNER
    assert table.grant(ask(work, 5, "t1", deliveries=2), 1, 0.1, -inf).held_by == PREVIOUS_OWNER
    assert list(table.grant(ask(work, 5, "t1", deliveries=1), 1, 0.1, -inf).dues) == [0]


def test_whom_the_previous_owner_granted_a_chunk_is_known_once_it_is_heard_of() -> None:
    table, work = Dispatches(), chunk("c", "a")
    table.begin(*entry(work), 0.0, 5).granted_to = PREVIOUS_OWNER
    table.heard("c", "t2", 0.1)
    assert table.grant(ask(work, 5, "t1", deliveries=2), 1, 0.1, -inf).held_by == "t2"


def test_only_what_is_wanted_of_a_chunk_is_entered() -> None:
    """Of a chunk that an earlier owner dispatched some thoughts are stored, and paid for, already."""
    table, work = Dispatches(), chunk("c", "a", "b", "c")
    table.begin(*entry(work, but="b"), 0.0, 5)
    assert grant(table, work, 5) == [0, 2]
    assert not table.in_flight("b")


def test_how_long_a_thought_waited_is_told_once() -> None:
    table, work = Dispatches(), chunk("c", "a", "b")
    table.begin(*entry(work), 4.0, 5)
    assert table.grant(ask(work, 5), 1, 10.0, -inf).waited == 6.0
    assert table.grant(ask(work, 5), 1, 11.0, -inf).waited is None


def test_the_end_of_a_run_touches_no_later_one() -> None:
    table, old, new = Dispatches(), chunk("1", "a"), chunk("2", "b", run=2)
    table.begin(*entry(old), 0.0, 5)
    table.begin(*entry(new), 0.0, 6)
    assert [dispatch.chunk.id for dispatch in table.of_run(1)] == ["1"]
    assert [dispatch.chunk.id for dispatch in table.drop_ungranted(1)] == ["1"]
    assert table.in_flight("b")


def test_a_chunk_that_is_delivered_again_is_granted_to_whoever_has_it_now() -> None:
    """The thinker that had it is dead, or thought too long: the second answer is never stored."""
    table, work = Dispatches(), chunk("c", "a")
    dispatch = table.begin(*entry(work), 0.0, 5)
    assert grant(table, work, 5, thinker="t1") == [0]
    assert list(table.grant(ask(work, 5, "t2", deliveries=2), 1, 10.0 + HEARD_S, -inf).dues) == [0]
    assert (dispatch.granted_to, dispatch.touched) == ("t2", 10.0 + HEARD_S)


@pytest.mark.fact("3.3")
def test_a_delivery_that_the_broker_has_forgotten_is_not_granted_again_while_its_thinker_is_heard_of() -> (
    None
):
    """A broker that is killed counts its last deliveries anew: to another thinker they are first ones."""
    table, work = Dispatches(), chunk("c", "a")
    table.begin(*entry(work), 0.0, 5)
    assert list(table.grant(ask(work, 5, "t1"), 1, 10.0, -inf).dues) == [0]
    assert table.grant(ask(work, 5, "t2"), 1, 10.1, -inf) == Granted({}, held_by="t1")
    assert list(table.grant(ask(work, 5, "t2"), 1, 10.0 + HEARD_S, -inf).dues) == [0]


@pytest.mark.fact("3.2")
def test_a_second_copy_of_a_chunk_is_never_granted() -> None:
    """A publish whose outcome was unknown is repeated, and both may be stored."""
    table, work = Dispatches(), chunk("c", "a")
    table.begin(*entry(work), 0.0)
    assert grant(table, work, 5) == [0]
    assert grant(table, work, 6) == []
    assert grant(table, work, 5) == [0]


@pytest.mark.fact("3.2")
def test_two_copies_that_a_new_owner_finds_are_one_thought() -> None:
    """Take-over: the queue holds a chunk twice. One copy is granted, the other is not, nobody is stuck."""
    table, work = Dispatches(), chunk("c", "a", "b")
    table.begin(*entry(work), 0.0, 5)
    table.begin(*entry(work), 0.0, 6)
    granted = [grant(table, work, 5), grant(table, work, 6)]
    assert sorted(granted) == [[], [0, 1]]
    table.forget(["a", "b"])
    assert (len(table), table.all()) == (0, [])


def test_an_unknown_chunk_is_not_granted() -> None:
    assert grant(Dispatches(), chunk("c", "a"), 5) == []


@pytest.mark.fact("3.2")
def test_a_persona_with_a_thought_under_way_is_left_out_of_a_new_chunk() -> None:
    table, first, second = Dispatches(), chunk("1", "a"), chunk("2", "a", "b")
    table.begin(*entry(first), 0.0, 5)
    table.begin(*entry(second), 0.0, 6)
    assert grant(table, second, 6) == [1]
    assert grant(table, first, 5) == [0]


@pytest.mark.fact("4.2")
@pytest.mark.parametrize("run", [None, 2])
def test_work_of_a_run_that_is_over_is_granted_only_where_it_was_before(run: int | None) -> None:
    table, begun, queued = Dispatches(), chunk("1", "a"), chunk("2", "b")
    table.begin(*entry(begun), 0.0, 5)
    table.begin(*entry(queued), 0.0, 6)
    grant(table, begun, 5, run=1)
    assert grant(table, begun, 5, run=run) == [0], "its thinker goes on within the grace"
    assert grant(table, queued, 6, run=run) == []


@pytest.mark.fact("4.2")
def test_what_no_thinker_was_granted_can_be_withdrawn() -> None:
    table, begun, queued = Dispatches(), chunk("1", "a"), chunk("2", "b", "c")
    table.begin(*entry(begun), 0.0, 5)
    table.begin(*entry(queued), 0.0, 6)
    grant(table, begun, 5)
    assert [dispatch.chunk.id for dispatch in table.drop_ungranted(1)] == ["2"]
    assert [table.in_flight(name) for name in "abc"] == [True, False, False]
    assert grant(table, queued, 6) == []


def test_a_dropped_chunk_frees_its_personas() -> None:
    table, work = Dispatches(), chunk("c", "a", "b")
    dispatch = table.begin(*entry(work), 0.0, 5)
    table.forget(["a"])
    assert table.drop(dispatch) == ["b"]
    assert not table.in_flight("b")
    assert table.all() == []


def test_a_settled_chunk_is_forgotten() -> None:
    table = Dispatches()
    table.begin(*entry(chunk("c", "a", "b")), 0.0, 5)
    table.forget(["a", "nobody"])
    assert [dispatch.chunk.id for dispatch in table.all()] == ["c"]
    table.forget(["b", "b"])
    assert table.all() == []
    assert table.by_sequence(5) is None


def test_a_chunk_of_which_nothing_is_left_is_entered_only_where_it_is_queued_already() -> None:
    """Nobody would ever forget it: the scheduler would lag for ever."""
    table = Dispatches()
    first = table.begin(*entry(chunk("1", "a")), 0.0, 5)
    table.begin(*entry(chunk("2", "a")), 0.0)
    assert table.all() == [first]
    queued = table.begin(*entry(chunk("3", "a")), 0.0, 6)
    assert table.all() == [first, queued], "a new owner finds it, and looks after it until it is gone"


def test_the_thought_under_way_is_known() -> None:
    table, work = Dispatches(), chunk("c", "a", "b")
    table.begin(*entry(work), 0.0, 5)
    assert table.due("b") == entry(work)[1][1]
    table.forget(["b"])
    assert table.due("b") is None
    assert table.due("nobody") is None


def test_a_dispatch_is_found_by_its_place_in_the_queue() -> None:
    table, work = Dispatches(), chunk("c", "a")
    table.begin(*entry(work), 0.0, 5)
    found = table.by_sequence(5)
    assert found is not None
    assert found.chunk is work
    assert table.by_sequence(6) is None


def test_a_dispatch_of_which_nothing_is_heard_is_neglected() -> None:
    table, quiet, busy = Dispatches(), chunk("1", "a"), chunk("2", "b")
    table.begin(*entry(quiet), 0.0, 5)
    table.begin(*entry(busy), 0.0, 6)
    grant(table, busy, 6)
    table.heard("2", "t1", 15.0)
    table.heard("2", "t2", 19.0)
    table.heard("unknown", "t1", 15.0)
    assert [dispatch.chunk.id for dispatch in table.neglected(lambda at: 20.0 - at, 18.0)] == ["1"]
    assert [dispatch.chunk.id for dispatch in table.neglected(lambda at: 33.1 - at, 18.0)] == ["1", "2"]
    assert table.neglected(lambda at: 20.0 - at - 2.0, 18.0) == [], "for two seconds nothing could be heard"


@pytest.mark.fact("3.3")
def test_what_a_thinker_says_that_it_thinks_of_a_previous_owner_has_granted_it() -> None:
    """A broker that was killed has forgotten that it was delivered, and the new owner knows of nobody."""
    table, work = Dispatches(), chunk("c", "a")
    table.begin(*entry(work), 0.0, 5)
    table.heard("c", "t1", 1.0)
    assert table.grant(ask(work, 5, "t2"), 1, 1.1, -inf) == Granted({}, held_by="t1")
    assert table.drop_ungranted(1) == [], "it began"


def deliver(table: Dispatches, of: Chunk, delivery: int) -> Granted:
    """Grant a delivery long after whoever had the one before was heard."""
    return table.grant(ask(of, 5, f"t{delivery}", deliveries=delivery), 1, 10.0 * delivery, -inf)


def test_a_chunk_over_which_two_thinkers_have_ended_is_not_granted_whole_again() -> None:
    table, work = Dispatches(), chunk("c", "a", "b")
    dispatch = table.begin(*entry(work), 0.0, 5)
    assert [list(deliver(table, work, n).dues) for n in (1, 1, 2)] == [[0, 1]] * 3, (
        "asked again is granted again"
    )
    assert deliver(table, work, 3) == Granted({}, suspect=dispatch)


def test_a_thought_alone_is_granted_until_it_was_given_to_four_thinkers() -> None:
    table, work = Dispatches(), structs.replace(chunk("c", "a"), alone=True)
    dispatch = table.begin(*entry(work), 0.0, 5)
    dispatch.attempts = TOGETHER
    granted = [list(deliver(table, work, n).dues) for n in range(1, MAX_DELIVER - TOGETHER + 1)]
    assert granted == [[0]] * (MAX_DELIVER - TOGETHER)
    assert deliver(table, work, MAX_DELIVER).suspect is dispatch
