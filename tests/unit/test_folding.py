"""From committed thoughts to what is public [3.8, 3.9, 3.15]."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cognition.compose import Answer, compose, failed
from libs.contracts import streams
from libs.contracts.journal import PublicRecord, RegistryRecord, ThoughtEntry
from libs.contracts.thoughts import MemorySnapshot, Proposal, Usage
from services.compressor.folding import proposal_of, publications, snapshot_of
from tests.unit.make import NOW, Tree, item, line, shard_record, thought

_decode = msgspec.json.Decoder(PublicRecord).decode


def compressed(answer: Answer, count: int = 4) -> bytes:
    entry = compose(item("p", count, [line(n) for n in range(6)]), 1, answer, NOW)
    return bytes(entry.events[0][1])


@pytest.mark.fact("3.9")
def test_a_snapshot_derives_from_its_event() -> None:
    text = "First. Second! Third? " + "x" * 1600
    usage = Usage(prompt_tokens=5, completion_tokens=77, total_tokens=82)
    snapshot = snapshot_of(compressed(Answer(text=text, model="m-1", usage=usage)))
    assert (snapshot.generated_at, snapshot.swarm_id, snapshot.persona_scope) == (NOW, "swarm-core", ["p"])
    assert snapshot.summary == text[:1500] + "..."
    assert (snapshot.hot_event_count, snapshot.warm_fact_count, snapshot.cold_snapshot_count) == (6, 3, 1)
    assert snapshot.metadata == {
        "phase": "compress",
        "role": "observer",
        "source": "model",
        "model": "m-1",
        "completion_tokens": 77,
    }


@pytest.mark.fact("3.9")
def test_a_snapshot_of_a_fallback_says_so() -> None:
    snapshot = snapshot_of(compressed(failed("away")))
    assert snapshot.metadata == {
        "phase": "compress",
        "role": "observer",
        "source": "fallback",
        "model": "fallback",
        "completion_tokens": 0,
    }
    assert snapshot.warm_fact_count == 1


@pytest.mark.fact("3.9")
def test_a_model_that_counts_no_tokens_has_spent_0() -> None:
    snapshot = snapshot_of(compressed(Answer(text="Yes.", usage=Usage(total_tokens=3))))
    assert (snapshot.metadata["completion_tokens"], snapshot.metadata["model"]) == (0, "fallback")


@pytest.mark.fact("3.9")
@pytest.mark.fact("3.15")
def test_the_same_event_always_gives_the_same_snapshot() -> None:
    event, other = compressed(failed(None)), compressed(failed(None))
    assert snapshot_of(event) == snapshot_of(event)
    assert snapshot_of(event).id != snapshot_of(other).id


@pytest.mark.fact("3.8")
@pytest.mark.fact("3.14")
def test_a_proposal_derives_from_its_two_events() -> None:
    text = "Do this\n" + "y" * 1000
    entry = compose(item("p", 2), 1, Answer(text=text, model="m-1"), NOW)
    (_, hypothesis), (_, created) = entry.events
    announced = json.loads(bytes(created))["payload"]
    assert msgspec.to_builtins(proposal_of(hypothesis, created)) == {
        "id": announced["proposal_id"],
        "persona_id": "p",
        "title": "Do this",
        "rationale": text[:900] + "...",
        "evidence_refs": ["internal.thought_stream"],
        "risk": "low",
        "status": "created",
        "created_at": "2026-01-02T03:04:05.678901Z",
    }


def record(*thoughts: ThoughtEntry) -> PublicRecord:
    return _decode(shard_record(*thoughts))


@pytest.mark.fact("3.15")
@given(st.lists(st.integers(1, 12), max_size=12))
def test_events_are_numbered_from_1_without_a_gap(counts: list[int]) -> None:
    """The numbers are places of the public stream: a gap or a repeat would be one there."""
    entries = [thought(f"p{n}", count) for n, count in enumerate(counts)]
    found = publications(record(*entries), 9)
    events = [p for p in found if p.stream == streams.EVENTS]
    assert [p.place for p in events] == [(9, index) for index in range(1, len(events) + 1)]
    assert [bytes(p.data) for p in events] == [bytes(event) for entry in entries for _, event in entry.events]


@given(st.lists(st.integers(1, 12), max_size=12))
def test_the_same_record_always_makes_the_same_public(counts: list[int]) -> None:
    whole = record(*(thought(f"p{n}", count) for n, count in enumerate(counts)))
    assert publications(whole, 3) == publications(whole, 3)


def test_snapshots_and_proposals_stand_at_the_place_of_their_event() -> None:
    found = publications(record(thought("a.b", 2), thought("p", 4)), 5)
    assert [(p.stream, p.place, p.subject) for p in found if p.stream != streams.PROPOSALS] == [
        ("EVENTS", (5, 1), "perpetua.in.events.swarm-core.a=2Eb.hypothesis_raised"),
        ("EVENTS", (5, 2), "perpetua.in.events.swarm-core.a=2Eb.proposal_created"),
        ("EVENTS", (5, 3), "perpetua.in.events.swarm-core.p.snapshot_compressed"),
        ("SNAPSHOTS", (5, 3), "perpetua.in.snapshots.swarm-core.p"),
    ]
    (proposal,) = (p for p in found if p.stream == streams.PROPOSALS)
    stored = msgspec.json.decode(proposal.data, type=Proposal)
    assert proposal.subject == f"$KV.proposals.{stored.id}"
    snapshot = msgspec.json.decode(found[-1].data, type=MemorySnapshot)
    assert snapshot.persona_scope == ["p"]


def test_events_of_the_registry_are_published_as_they_are() -> None:
    tree = Tree()
    tree.create("p", swarm_id="s")
    (registry_event,) = msgspec.json.decode(tree.log[0][1], type=RegistryRecord).events
    (found,) = publications(_decode(tree.log[0][1]), 4)
    assert (found.place, found.subject) == ((4, 1), "perpetua.in.events.s.p.persona_spawned")
    assert bytes(found.data) == bytes(registry_event.event)


def test_a_marker_makes_nothing_public() -> None:
    assert publications(_decode(b'{"halt":3,"reap":["p"]}'), 8) == []


def test_what_is_published_is_valid_json_of_one_line() -> None:
    hostile: Any = compose(item("p", 1), 1, Answer(text='"\n\r\u2028data: x\n\nevent: y\0</script>'), NOW)
    (found,) = publications(record(hostile), 1)
    assert b"\n" not in bytes(found.data)
    assert b"\r" not in bytes(found.data)
    assert json.loads(bytes(found.data))["payload"]["thinking"].startswith('"\n\r')
