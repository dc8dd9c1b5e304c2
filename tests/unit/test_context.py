"""Recent context [3.5]."""

from __future__ import annotations

import json
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cognition.compose import Answer, compose, make_event
from libs.cognition.context import SHARED_TYPES, Recent, context_line, merge, restored
from libs.contracts.limits import CONTEXT_EVENTS
from libs.contracts.place import Place, format_place, parse_place
from libs.contracts.thoughts import CheckResultPayload, EventType, LoopStoppedPayload, Phase, Source
from libs.contracts.work import ContextLine
from services.scheduler.ledger import Ledger
from tests.unit.make import NOW, Tree, item, line, lines, shard_record

PLACES = st.tuples(st.integers(1, 30), st.integers(1, 4))


def entries(places: set[Place]) -> list[tuple[Place, ContextLine]]:
    return [(place, line(hash(place))) for place in sorted(places)]


def remembered(places: set[Place]) -> Recent:
    """What is remembered of events that come in their order."""
    events = Recent()
    for place, entry in entries(places):
        events.add(place, entry)
    return events


@pytest.mark.fact("3.5")
@given(st.sets(PLACES), st.sets(PLACES))
def test_context_is_the_newest_8_of_both_in_stream_order(own: set[Place], others: set[Place]) -> None:
    expected = [entry for _, entry in entries(own | others)[-CONTEXT_EVENTS:]]
    assert lines(merge(remembered(own - others), remembered(others))) == expected


@pytest.mark.fact("3.5")
@given(st.sets(PLACES), st.sets(PLACES), PLACES)
def test_what_came_while_the_stream_was_read_stands_behind_it_once(
    held: set[Place], live: set[Place], public: Place
) -> None:
    """`live` may repeat what the stream holds; what it has beyond `public` follows."""
    from_stream, meanwhile = remembered({place for place in held if place <= public}), remembered(live)
    found = restored(from_stream, meanwhile, public)
    wanted = {e.place for e in from_stream} | {e.place for e in meanwhile if e.place > public}
    assert [event.place for event in found] == sorted(wanted)[-CONTEXT_EVENTS:]


@pytest.mark.fact("3.5")
def test_only_three_types_of_events_without_a_persona_are_everybodys_context() -> None:
    assert {str(kind) for kind in SHARED_TYPES} == {"check_result", "proposal_created", "snapshot_compressed"}


@pytest.mark.fact("3.5")
@pytest.mark.parametrize("answered", ["By a model. It says more!", None])
def test_a_lone_fresh_persona_sees_1_2_4_6_7_8_8_events(answered: str | None) -> None:
    tree, ledger = Tree(), Ledger(0)
    (spawned,) = tree.create("p").events
    ledger.persona("p").remember((1, 1), context_line(spawned.event))
    seen = []
    for count in range(1, 12):
        thought = compose(
            item("p", count, lines(ledger.context("p", Recent()))), 1, Answer(text=answered), NOW
        )
        seen.append(json.loads(bytes(thought.events[0][1]))["payload"]["context_event_count"])
        ledger.fold(10 + count, shard_record(thought, number=count))
    assert seen == [1, 2, 4, 6, 7, 8, 8, 8, 8, 8, 8]


@pytest.mark.fact("3.5")
def test_an_event_without_a_persona_pushes_the_oldest_own_one_out() -> None:
    ledger, shared = Ledger(0), Recent()
    for number in range(8):
        ledger.persona("p").remember((number, 1), line(number))
    stopped = LoopStoppedPayload(stopped=True, reason="tea")
    event = make_event(EventType.CHECK_RESULT, None, None, NOW, stopped)
    shared.add((5, 2), context_line(event))
    context = lines(ledger.context("p", shared))
    assert len(context) == 8
    assert context[0] == line(1)
    assert context[5].event_type == "check_result"
    assert json.loads(context[5].excerpt) == {"stopped": True, "reason": "tea"}


@pytest.mark.fact("3.12")
def test_a_line_of_context_has_type_timestamp_and_payload() -> None:
    payload = CheckResultPayload(
        phase=Phase.TEST, thought_count=3, result_excerpt="ok", source=Source.MODEL, model=None
    )
    event = make_event(EventType.CHECK_RESULT, "p", "s", NOW + timedelta(days=1), payload)
    assert context_line(event) == ContextLine(
        "check_result",
        "2026-01-03T03:04:05.678901Z",
        '{"phase":"test","thought_count":3,"result_excerpt":"ok","source":"model","model":null}',
    )


@pytest.mark.fact("3.12")
@given(st.text(max_size=400))
def test_a_payload_is_trimmed_to_220_characters_whatever_it_holds(reason: str) -> None:
    """The payload is cut as bytes first: no character may be lost or broken by that."""
    payload = LoopStoppedPayload(stopped=True, reason=reason)
    whole = msgspec.json.encode(payload).decode()
    excerpt = context_line(make_event(EventType.CHECK_RESULT, None, None, NOW, payload)).excerpt
    assert excerpt == (whole if len(whole) <= 220 else whole[:220] + "...").strip()


@given(st.tuples(st.integers(0, 2**63), st.integers(0, 10_000)))
def test_a_place_comes_back_from_its_header(place: Place) -> None:
    assert parse_place(format_place(place)) == place
