"""Which swarms' memories are rolled up, when, and of whose snapshots [A18]."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cognition.compose import Answer, compose, failed
from libs.cognition.rollup import roll_up_event
from libs.contracts import streams
from libs.contracts.journal import PublicRecord, ThoughtEntry
from libs.contracts.limits import EVENT_BYTES
from libs.contracts.rollups import ROLLED_UP_MOST, SharedSnapshot, SummaryReply
from libs.contracts.thoughts import MemorySnapshot, Source, Usage
from services.compressor.folding import publications, roll_up_of
from services.compressor.rollups import SWARMS_MOST, RollUps, Taken, deterministic, rolled_up
from tests.unit.make import NOW, item

MINUTE = 60.0
USAGE = Usage(prompt_tokens=10, completion_tokens=4, total_tokens=14)


def snapshot(persona_id: str, count: int = 4, *, text: str | None = None, **more: Any) -> ThoughtEntry:
    """A persona's thought, which every fourth is a snapshot; without any text a declared fallback."""
    asked = msgspec.structs.replace(item(persona_id, count), **({"swarm_id": "s", "shares": True} | more))
    answer = failed(None) if text == "" else Answer(text=text or f"{persona_id} is calm.")
    return compose(asked, 1, answer, NOW)


def record(*thoughts: ThoughtEntry) -> PublicRecord:
    return PublicRecord(number=1, thoughts=list(thoughts))


def noted(*records: PublicRecord, interval: float = MINUTE) -> RollUps:
    made = RollUps(interval)
    for sequence, one in enumerate(records, start=1):
        made.note(one, sequence)
    return made


@pytest.mark.fact("A18")
def test_two_new_snapshots_make_a_swarm_due_and_one_does_not() -> None:
    made = noted(record(snapshot("a")))
    assert made.due(0) == []
    made.note(record(snapshot("b")), 2)
    assert made.due(0) == ["s"]
    taken = made.take("s", 0)
    assert [one.persona_id for one in taken.snapshots] == ["a", "b"]
    assert made.due(1e9) == []


@pytest.mark.fact("A18")
def test_a_swarm_is_rolled_up_at_most_once_an_interval() -> None:
    made = noted(record(snapshot("a"), snapshot("b")))
    made.take("s", 100)
    made.note(record(snapshot("a", 8), snapshot("b", 8)), 2)
    assert made.due(100 + MINUTE - 1) == []
    assert made.due(100 + MINUTE) == ["s"]


@pytest.mark.fact("A18")
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.integers(1, 12), st.booleans(), st.sampled_from([None, "s", "t"])
        ),
        max_size=40,
    )
)
def test_only_snapshots_that_are_shared_are_ever_folded_in(
    thoughts: list[tuple[str, int, bool, str | None]],
) -> None:
    """And of a persona without a swarm nobody is to know."""
    entries = [snapshot(who, count, swarm_id=swarm, shares=shares) for who, count, shares, swarm in thoughts]
    made = noted(*(record(entry) for entry in entries))
    for swarm_id in made.due(0):
        shared = [
            who for who, count, shares, swarm in thoughts if shares and swarm == swarm_id and count % 4 == 0
        ]
        taken = made.take(swarm_id, 0)
        assert [one.persona_id for one in taken.snapshots] == shared[-ROLLED_UP_MOST:]
        request = rolled_up(taken, None)
        assert set(request.persona_scope) == {one.persona_id for one in taken.snapshots}
        assert len(request.persona_scope) == len(set(request.persona_scope))
        assert request.cold_snapshot_count == len(taken.snapshots)


def test_a_record_that_is_read_again_changes_nothing() -> None:
    """As when a compressor begins anew behind the streams' ends."""
    one, two = record(snapshot("a"), snapshot("b")), record(snapshot("a", 8))
    made = noted(one, two)
    made.note(one, 1)
    made.note(two, 2)
    assert len(made.take("s", 0).snapshots) == 3
    made.note(two, 2)
    assert made.due(1e9) == []


def test_the_newest_are_folded_in_and_the_others_counted() -> None:
    made = noted(*(record(snapshot("a", 4 * n)) for n in range(1, 21)))
    assert made.left_out() == 20 - ROLLED_UP_MOST
    assert made.left_out() == 0
    assert len(made.take("s", 0).snapshots) == ROLLED_UP_MOST


def test_what_is_put_back_stands_before_what_has_come_and_only_behind_what_is_folded_in() -> None:
    made = noted(record(snapshot("a")), record(snapshot("b"), snapshot("c")))
    taken = made.take("s", 0)
    assert taken.places == [(1, 1), (2, 1), (2, 2)]
    made.note(record(snapshot("d")), 3)
    made.put_back(taken, (2, 1))
    again = made.take("s", 0)
    assert [one.persona_id for one in again.snapshots] == ["c", "d"]
    assert (again.ask().first, rolled_up(again, None).last) == ((2, 2), (3, 1))
    for number in range(ROLLED_UP_MOST):
        made.note(record(snapshot("e")), 4 + number)
    made.put_back(again, (2, 1))
    assert [one.persona_id for one in made.take("s", 0).snapshots] == ["e"] * ROLLED_UP_MOST
    assert made.left_out() == 2


def test_a_roll_up_has_an_id_of_what_it_folds_in() -> None:
    one, other = noted(record(snapshot("a"), snapshot("b"))), noted(record(snapshot("a"), snapshot("b")))
    assert one.take("s", 0).id == other.take("s", 5).id
    later = RollUps(MINUTE)
    later.note(record(snapshot("a"), snapshot("b")), 2)
    assert later.take("s", 0).id != noted(record(snapshot("a"), snapshot("b"))).take("s", 0).id


def test_of_very_many_swarms_all_have_their_turn() -> None:
    """Those beyond the bound wait until nothing is new of another."""
    made = RollUps(0)
    for n in range(SWARMS_MOST + 3):
        made.note(record(snapshot("a", swarm_id=f"s{n}"), snapshot("b", swarm_id=f"s{n}")), n + 1)
    assert len(made.due(0)) == SWARMS_MOST
    assert made.left_out() == 6
    made.take("s0", 0)
    made.note(record(snapshot("a", swarm_id="new"), snapshot("b", swarm_id="new")), SWARMS_MOST + 9)
    assert "new" in made.due(0)


def test_a_compressor_that_stands_by_forgets() -> None:
    made = noted(record(snapshot("a"), snapshot("b")))
    made.forget()
    assert made.due(1e9) == []
    assert made.left_out() == 2


@pytest.mark.fact("A18")
def test_a_model_s_summary_is_the_roll_up_of_those_it_was_told() -> None:
    taken = noted(record(snapshot("a"), snapshot("b"), snapshot("a", 8))).take("s", 0)
    assert taken.by_model
    request = rolled_up(
        taken, SummaryReply(text="All calm. Yes!", told=2, model="m", usage=USAGE, error=None)
    )
    assert (request.summary, request.source, request.model, request.usage) == (
        "All calm. Yes!", Source.MODEL, "m", USAGE,
    )  # fmt: skip
    assert (request.persona_scope, request.cold_snapshot_count, request.warm_fact_count) == (["b", "a"], 2, 2)
    assert (request.swarm_id, request.error) == ("s", None)


@pytest.mark.fact("A18")
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (None, "nobody answers"),
        (SummaryReply(text=None, told=2, model=None, usage=None, error="HTTP 503"), "HTTP 503"),
        (SummaryReply(text=" ", told=2, model="m", usage=None, error=None), None),
        (SummaryReply(text="x", told=0, model="m", usage=None, error=None), None),
    ],
)
def test_without_a_model_s_word_it_has_the_deterministic_form(
    reply: SummaryReply | None, error: str | None
) -> None:
    taken = noted(record(snapshot("a", text="One.\n\nTwo."), snapshot("b"))).take("s", 0)
    request = rolled_up(taken, reply, "nobody answers")
    assert request.summary == "name of a: One. Two.\nname of b: b is calm."
    assert (request.source, request.model, request.usage) == (Source.FALLBACK, None, None)
    assert request.error == error
    assert request.persona_scope == ["a", "b"]


def test_what_no_model_thought_no_model_is_asked_to_sum_up() -> None:
    taken = noted(record(snapshot("a", text=""), snapshot("b", text=""))).take("s", 0)
    assert not taken.by_model
    assert noted(record(snapshot("a", text=""), snapshot("b"))).take("s", 0).by_model


SNAPSHOTS = st.lists(
    st.builds(
        SharedSnapshot,
        persona_id=st.text(min_size=1, max_size=128),
        name=st.text(min_size=1, max_size=200),
        role=st.just("r"),
        summary=st.text(max_size=1600),
        hot_event_count=st.integers(0, 8),
        by_model=st.booleans(),
    ),
    min_size=2,
    max_size=ROLLED_UP_MOST,
)


@pytest.mark.fact("A18")
@given(SNAPSHOTS)
def test_the_deterministic_form_is_bounded_and_has_a_line_of_everybody(
    snapshots: list[SharedSnapshot],
) -> None:
    text = deterministic(snapshots)
    assert len(text) <= 1500
    assert text == deterministic(snapshots)
    event = roll_up_event(rolled_up(Taken(id="i", swarm_id="s", snapshots=snapshots), None), NOW)
    assert len(event.event) < EVENT_BYTES / 2


@pytest.mark.fact("A18")
def test_the_event_of_a_roll_up_is_published_and_folded_into_a_snapshot_of_the_swarm() -> None:
    taken = noted(record(snapshot("a"), snapshot("b"))).take("s", 0)
    request = rolled_up(taken, SummaryReply(text="All calm.", told=2, model="m", usage=USAGE, error=None))
    journaled = roll_up_event(request, NOW)
    found = publications(PublicRecord(number=3, events=[journaled]), 7)
    assert [(one.stream, one.place, one.subject) for one in found] == [
        (streams.EVENTS, (7, 1), "perpetua.in.events.s._.snapshot_compressed"),
        (streams.SNAPSHOTS, (7, 1), "perpetua.in.snapshots.s._"),
    ]
    event: dict[str, Any] = msgspec.json.decode(found[0].data)
    assert (event["persona_id"], event["swarm_id"], event["event_type"]) == (None, "s", "snapshot_compressed")
    assert event["payload"]["thinking"] == "All calm."
    folded = msgspec.json.decode(found[1].data, type=MemorySnapshot)
    assert folded == roll_up_of(journaled.event)
    assert (folded.swarm_id, folded.persona_scope, folded.summary) == ("s", ["a", "b"], "All calm.")
    assert (folded.cold_snapshot_count, folded.warm_fact_count, folded.generated_at) == (2, 1, NOW)
    assert folded.metadata == {
        "phase": "compress", "role": "swarm", "source": "model", "model": "m", "completion_tokens": 4,
    }  # fmt: skip
