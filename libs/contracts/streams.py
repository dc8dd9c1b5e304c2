"""Every stream, bucket and consumer, with its configuration. Provisioned by `libs.bus.provision` alone.

Configurations are the JSON of the JetStream API. JOURNAL refuses when a subject is full and never evicts:
expected sequences are only a fence where nothing is evicted (docs/decisions/0001-journal.md).
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from libs.contracts import subjects
from libs.contracts.limits import (
    ACK_WAIT_S,
    CAPTURE_BYTES,
    EVENT_BYTES,
    INBOX_ITEMS,
    JOURNAL_DEPTH,
    MAX_DELIVER,
)

EVENTS = "EVENTS"
SNAPSHOTS = "SNAPSHOTS"
JOURNAL = "JOURNAL"
THINK = "THINK"
INBOX = "INBOX"
DEAD_LETTERS = "DEAD_LETTERS"
CAPTURES = "CAPTURES"
PERSONAS = "KV_personas"
LEASES = "KV_leases"
POSTS = "KV_posts"
SENT = "KV_sent"
CONTROL = "KV_control"
PROPOSALS = "KV_proposals"
CHECKPOINTS = "KV_checkpoints"

THINKERS = "thinkers"
"""The work queue's one consumer, shared by all thinkers."""

PLACE = "P"
"""Header of each public message: `<journal sequence>.<index>`, the event's place in its journal record."""

MIN_SERVER_VERSION = (2, 11)
"""The first nats-server with per-message TTL, which presence relies on."""

_SECOND = 1_000_000_000
_THINK_DEPTH = 131_072
INBOX_DEPTH = 2 * INBOX_ITEMS
"""Messages kept for one persona: its owner deletes what its inbox does not take, but may be away."""

_PENDING_CHUNKS = 4_096
_DEAD_LETTERS_KEPT = 1_000
_POSTS_KEPT = 10_000
_SENT_KEPT = 100_000
"""Ids of what is to be sent once; whoever sends an older one again sends it twice."""


class StreamBounds(Struct, frozen=True, kw_only=True):
    """What an operator may choose about the streams."""

    max_events: int = 2000
    max_snapshots: int = 128
    max_proposals: int = 10_000
    max_captures: int = 2000
    max_inbox_bytes: int = 64 * 1024 * 1024
    replicas: int = 1
    sync_always: bool = False
    """The broker flushes each write: public streams take atomic batches, which it flushes once (2.12)."""


class StreamSpec(Struct, frozen=True):
    """A stream and its wanted configuration."""

    name: str
    config: dict[str, Any]


def specs(bounds: StreamBounds) -> list[StreamSpec]:
    """Return every stream of the system."""
    batches: dict[str, Any] = {"allow_atomic": True} if bounds.sync_always else {}
    events, snapshots = (subjects.EVENTS_IN, subjects.EVENTS), (subjects.SNAPSHOTS_IN, subjects.SNAPSHOTS)
    return [
        _public(EVENTS, events, bounds.max_events, bounds.replicas, batches),
        _public(SNAPSHOTS, snapshots, bounds.max_snapshots, bounds.replicas, batches),
        _stream(
            JOURNAL,
            subjects.JOURNAL,
            bounds.replicas,
            max_msgs_per_subject=JOURNAL_DEPTH,
            discard="new",
            discard_new_per_subject=True,
        ),
        _stream(
            THINK,
            subjects.THINK,
            bounds.replicas,
            retention="workqueue",
            max_msgs=_THINK_DEPTH,
            discard="new",
        ),
        _stream(
            INBOX,
            subjects.INBOX,
            bounds.replicas,
            max_bytes=bounds.max_inbox_bytes,
            max_msgs_per_subject=INBOX_DEPTH,
            discard="new",
            discard_new_per_subject=True,
        ),
        _stream(DEAD_LETTERS, subjects.DEAD_LETTERS, bounds.replicas, max_msgs=_DEAD_LETTERS_KEPT),
        _stream(
            CAPTURES,
            subjects.CAPTURES,
            bounds.replicas,
            max_msgs=bounds.max_captures,
            max_msgs_per_subject=1,
            max_msg_size=CAPTURE_BYTES,
            allow_direct=True,
        ),
        _bucket(PERSONAS, bounds.replicas),
        _bucket(CONTROL, bounds.replicas),
        _bucket(CHECKPOINTS, bounds.replicas),
        _bucket(PROPOSALS, bounds.replicas, max_msgs=bounds.max_proposals, discard="old", **batches),
        _bucket(POSTS, bounds.replicas, max_msgs=_POSTS_KEPT, discard="old"),
        _bucket(SENT, bounds.replicas, max_msgs=_SENT_KEPT, discard="old"),
        _bucket(LEASES, bounds.replicas, allow_msg_ttl=True),
    ]


def thinkers_consumer() -> dict[str, Any]:
    """Return the configuration of the work queue's consumer."""
    return {
        "durable_name": THINKERS,
        "ack_policy": "explicit",
        "ack_wait": int(ACK_WAIT_S * _SECOND),
        "max_deliver": MAX_DELIVER,
        "max_ack_pending": _PENDING_CHUNKS,
        "max_waiting": 512,
        "deliver_policy": "all",
        "replay_policy": "instant",
    }


def _stream(name: str, subject: str, replicas: int, **config: Any) -> StreamSpec:
    base: dict[str, Any] = {
        "name": name,
        "subjects": [subject],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": replicas,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "duplicate_window": _SECOND,
    }
    return StreamSpec(name, base | config)


def _public(
    name: str, subject: tuple[str, str], max_msgs: int, replicas: int, config: dict[str, Any]
) -> StreamSpec:
    """Return a stream that only its writer fills: what is stored is republished under the second subject."""
    subject_in, shown = subject
    transform = {"src": subject_in, "dest": shown}
    return _stream(
        name,
        subject_in,
        replicas,
        max_msgs=max_msgs,
        max_msg_size=EVENT_BYTES,
        allow_direct=True,
        subject_transform=transform,
        republish={"src": shown, "dest": shown},
        **config,
    )


def _bucket(name: str, replicas: int, **config: Any) -> StreamSpec:
    bucket = name.removeprefix("KV_")
    kv = {
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
    }
    return _stream(name, f"$KV.{bucket}.>", replicas, **(kv | config))
