"""Streams and subjects, named once: what safety rests on stays as it is."""

from __future__ import annotations

import re
from typing import Any

import pytest

from libs.contracts import streams, subjects
from libs.contracts.limits import ACK_WAIT_S, CAPTURE_BYTES, JOURNAL_DEPTH, SHARDS
from libs.contracts.streams import StreamBounds, specs, thinkers_consumer

BOUNDS = StreamBounds(max_events=77, max_snapshots=9, max_proposals=11, max_captures=13, replicas=3)
CONFIGS: dict[str, dict[str, Any]] = {spec.name: spec.config for spec in specs(BOUNDS)}


@pytest.mark.fact("3.3")
def test_the_journal_refuses_and_never_evicts() -> None:
    """An expected sequence is a fence only where nothing is evicted."""
    journal = CONFIGS["JOURNAL"]
    assert (journal["discard"], journal["discard_new_per_subject"]) == ("new", True)
    assert journal["max_msgs_per_subject"] == JOURNAL_DEPTH
    assert (journal["max_msgs"], journal["max_bytes"], journal["max_age"]) == (-1, -1, 0)


@pytest.mark.fact("1.1")
def test_the_public_streams_are_bounded_as_the_operator_says() -> None:
    assert (CONFIGS["EVENTS"]["max_msgs"], CONFIGS["SNAPSHOTS"]["max_msgs"]) == (77, 9)
    for name in ("EVENTS", "SNAPSHOTS"):
        assert (CONFIGS[name]["discard"], CONFIGS[name]["max_age"]) == ("old", 0)
    assert (CONFIGS["KV_proposals"]["max_msgs"], CONFIGS["KV_proposals"]["discard"]) == (11, "old")


def test_subscribers_see_what_was_stored_and_nothing_else() -> None:
    """Publishers use a subject of their own; the broker publishes again what it has stored."""
    for name, public in (("EVENTS", "perpetua.events.>"), ("SNAPSHOTS", "perpetua.snapshots.>")):
        config = CONFIGS[name]
        (subject,) = config["subjects"]
        assert subject.startswith("perpetua.in.")
        assert config["subject_transform"] == {"src": subject, "dest": public}
        assert config["republish"] == {"src": public, "dest": public}


def test_captures_are_bounded_and_one_a_thought() -> None:
    captures = CONFIGS["CAPTURES"]
    assert (captures["max_msgs"], captures["max_msgs_per_subject"], captures["discard"]) == (13, 1, "old")
    assert captures["max_msg_size"] == CAPTURE_BYTES
    assert covers(subjects.captures_of("a b"), subjects.capture("a b", 7))


def test_buckets_keep_one_value_a_key_for_good() -> None:
    for name in ("KV_personas", "KV_control", "KV_checkpoints"):
        assert (CONFIGS[name]["max_msgs_per_subject"], CONFIGS[name]["max_age"]) == (1, 0)
        assert CONFIGS[name]["max_msgs"] == -1


def test_every_stream_has_as_many_replicas_as_asked_for() -> None:
    assert {config["num_replicas"] for config in CONFIGS.values()} == {3}


def test_work_is_bounded_and_given_up_after_some_deliveries() -> None:
    consumer = thinkers_consumer()
    assert consumer["ack_wait"] == int(ACK_WAIT_S * 1e9)
    assert (consumer["ack_policy"], consumer["max_deliver"]) == ("explicit", 4)
    assert consumer["max_ack_pending"] > 0
    assert "backoff" not in consumer, "it would override ack_wait"
    assert (CONFIGS["THINK"]["retention"], CONFIGS["THINK"]["discard"]) == ("workqueue", "new")


def covers(pattern: str, subject: str) -> bool:
    regex = re.escape(pattern).replace(r"\*", "[^.]+").replace(">", ".+")
    return re.fullmatch(regex, subject) is not None


@pytest.mark.parametrize(
    ("stream", "subject"),
    [
        ("EVENTS", subjects.event_in("s", None, "t")),
        ("SNAPSHOTS", subjects.snapshot_in(None, "p")),
        ("JOURNAL", subjects.journal(0)),
        ("JOURNAL", subjects.JOURNAL_REGISTRY),
        ("THINK", subjects.think(63)),
        ("DEAD_LETTERS", subjects.dead_letter("THINK")),
        ("CAPTURES", subjects.capture("a b", 7)),
        ("KV_personas", subjects.persona_key("a b")),
        ("KV_control", subjects.LOOP_KEY),
        ("KV_leases", subjects.presence_key("thinker", "host.1")),
        ("KV_checkpoints", subjects.checkpoint_head(1)),
        ("KV_checkpoints", subjects.checkpoint_page(1, 0)),
        ("KV_checkpoints", subjects.checkpoint_accounts(1, 0, 0)),
        ("KV_proposals", subjects.proposal_key("p")),
    ],
)
def test_what_is_published_belongs_to_exactly_one_stream(stream: str, subject: str) -> None:
    takers = [name for name, config in CONFIGS.items() if any(covers(p, subject) for p in config["subjects"])]
    assert takers == [stream]


def test_no_two_shards_share_a_subject() -> None:
    made = [
        make(shard)
        for make in (subjects.journal, subjects.think, subjects.grant, subjects.result, subjects.counters)
        for shard in range(SHARDS)
    ]
    assert len(set(made)) == len(made)


def test_events_without_swarm_or_persona_have_an_underscore_there() -> None:
    assert subjects.event(None, None, "check_result") == "perpetua.events._._.check_result"
    assert streams.PLACE == "P"
