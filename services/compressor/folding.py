"""From a committed thought to what is public of it: events, a snapshot, a proposal. Pure [3.8, 3.9, A18].

Everything derives from the events' final bytes, so the same record gives the same result however often, and
by whomever, it is folded [3.15].
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar
from uuid import UUID, uuid5

import msgspec
from msgspec import UNSET, Struct, UnsetType

from libs.cognition.text import RATIONALE_CHARS, SUMMARY_CHARS, count_facts, trim
from libs.contracts import streams, subjects
from libs.contracts.journal import PublicRecord, ThoughtEntry
from libs.contracts.place import Place
from libs.contracts.rollups import SharedSnapshot
from libs.contracts.thoughts import (
    EventType,
    MemorySnapshot,
    Phase,
    Proposal,
    ProposalCreatedPayload,
    ProposalRisk,
    ProposalStatus,
    RollUpPayload,
    Source,
    ThoughtPayload,
)
from libs.contracts.traces import is_traceparent

K = TypeVar("K")

_SNAPSHOT_IDS = UUID("6d1f1f4e-6f0e-4f0c-9a54-2f9f0b8f4c11")
SWARM_ROLE = "swarm"
"""The role under which a roll-up stands in a snapshot's metadata."""

_EVIDENCE = ["internal.thought_stream"]

_encode = msgspec.json.Encoder().encode


class _Thought(Struct, frozen=True):
    id: str
    timestamp: datetime
    swarm_id: str | None
    persona_id: str
    payload: ThoughtPayload


class _RollUp(Struct, frozen=True):
    id: str
    timestamp: datetime
    swarm_id: str | None
    payload: RollUpPayload


class _ProposalCreated(Struct, frozen=True):
    timestamp: datetime
    payload: ProposalCreatedPayload


_decode_thought = msgspec.json.Decoder(_Thought).decode
_decode_roll_up = msgspec.json.Decoder(_RollUp).decode
_decode_proposal_created = msgspec.json.Decoder(_ProposalCreated).decode


class Publication(Struct, frozen=True, array_like=True):
    """A message for one of the public streams or for the `proposals` bucket."""

    stream: str
    place: Place
    subject: str
    data: bytes | msgspec.Raw
    event_type: str = ""
    traceparent: str | None = None
    """Of an event, the trace that its subscribers go on from."""


def publications(record: PublicRecord, sequence: int) -> list[Publication]:
    """Return what a journal record makes public, in order. Events are numbered from 1 within the record."""
    found: list[Publication] = []
    index = 0
    for thought in record.thoughts:
        trace = _valid(record.traces, thought.persona_id) if record.traces is not UNSET else None
        for event_type, event in thought.events:
            index += 1
            subject = subjects.event_in(thought.swarm_id, thought.persona_id, event_type)
            found.append(Publication(streams.EVENTS, (sequence, index), subject, event, event_type, trace))
            if event_type == EventType.SNAPSHOT_COMPRESSED:
                found.append(_snapshot_publication(thought, event, (sequence, index)))
            elif event_type == EventType.PROPOSAL_CREATED:
                found.append(_proposal_publication(thought, event, (sequence, index)))
    for number, other in enumerate(record.events):
        index += 1
        trace = _valid(record.event_traces, number)
        subject = subjects.event_in(other.swarm_id, other.persona_id, other.event_type)
        kind = other.event_type
        found.append(Publication(streams.EVENTS, (sequence, index), subject, other.event, kind, trace))
        if other.event_type == EventType.SNAPSHOT_COMPRESSED:
            snapshot = _encode(roll_up_of(other.event))
            subject = subjects.snapshot_in(other.swarm_id, None)
            found.append(Publication(streams.SNAPSHOTS, (sequence, index), subject, snapshot))
    return found


def _valid(traces: Mapping[K, str] | UnsetType, of: K) -> str | None:
    """Return the context of a thought or event, if it may stand in a header as it is."""
    traceparent = traces.get(of) if traces is not UNSET else None
    return traceparent if traceparent is not None and is_traceparent(traceparent) else None


def snapshot_of(event: bytes | msgspec.Raw) -> MemorySnapshot:
    """Return the memory snapshot that a `snapshot_compressed` event stands for."""
    thought = _decode_thought(event)
    payload = thought.payload
    tokens = payload.usage.completion_tokens if payload.usage is not None else None
    return MemorySnapshot(
        id=str(uuid5(_SNAPSHOT_IDS, thought.id)),
        generated_at=thought.timestamp,
        swarm_id=thought.swarm_id,
        persona_scope=[thought.persona_id],
        summary=trim(payload.thinking, SUMMARY_CHARS),
        hot_event_count=payload.context_event_count,
        warm_fact_count=count_facts(payload.thinking),
        cold_snapshot_count=1,
        metadata={
            "phase": payload.phase,
            "role": payload.persona.role,
            "source": payload.source,
            "model": payload.model or "fallback",
            "completion_tokens": tokens or 0,
        },
    )


def roll_up_of(event: bytes | msgspec.Raw) -> MemorySnapshot:
    """Return the memory snapshot that a `snapshot_compressed` without a persona stands for [A18]."""
    seen = _decode_roll_up(event)
    payload = seen.payload
    tokens = payload.usage.completion_tokens if payload.usage is not None else None
    return MemorySnapshot(
        id=str(uuid5(_SNAPSHOT_IDS, seen.id)),
        generated_at=seen.timestamp,
        swarm_id=seen.swarm_id,
        persona_scope=payload.persona_scope,
        summary=trim(payload.thinking, SUMMARY_CHARS),
        hot_event_count=payload.hot_event_count,
        warm_fact_count=payload.warm_fact_count,
        cold_snapshot_count=payload.cold_snapshot_count,
        metadata={
            "phase": Phase.COMPRESS,
            "role": SWARM_ROLE,
            "source": payload.source,
            "model": payload.model or "fallback",
            "completion_tokens": tokens or 0,
        },
    )


def shared_snapshot(event: bytes | msgspec.Raw) -> SharedSnapshot:
    """Return what a roll-up folds in of a persona's `snapshot_compressed`."""
    thought = _decode_thought(event)
    payload = thought.payload
    return SharedSnapshot(
        persona_id=thought.persona_id,
        name=payload.persona.name,
        role=payload.persona.role,
        summary=trim(payload.thinking, SUMMARY_CHARS),
        hot_event_count=payload.context_event_count,
        by_model=payload.source is Source.MODEL,
    )


def proposal_of(hypothesis: bytes | msgspec.Raw, created: bytes | msgspec.Raw) -> Proposal:
    """Return the proposal that a `hypothesis_raised` and its `proposal_created` stand for."""
    thought = _decode_thought(hypothesis)
    announced = _decode_proposal_created(created)
    return Proposal(
        id=announced.payload.proposal_id,
        persona_id=thought.persona_id,
        title=announced.payload.title,
        rationale=trim(thought.payload.thinking, RATIONALE_CHARS),
        evidence_refs=_EVIDENCE,
        risk=ProposalRisk.LOW,
        status=ProposalStatus.CREATED,
        created_at=announced.timestamp,
    )


def _snapshot_publication(thought: ThoughtEntry, event: msgspec.Raw, place: Place) -> Publication:
    subject = subjects.snapshot_in(thought.swarm_id, thought.persona_id)
    return Publication(streams.SNAPSHOTS, place, subject, _encode(snapshot_of(event)))


def _proposal_publication(thought: ThoughtEntry, event: msgspec.Raw, place: Place) -> Publication:
    hypothesis = thought.events[0][1]
    proposal = proposal_of(hypothesis, event)
    return Publication(streams.PROPOSALS, place, subjects.proposal_key(proposal.id), _encode(proposal))
