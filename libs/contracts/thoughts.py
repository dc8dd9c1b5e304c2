"""What the loop emits: thought events, proposals and memory snapshots [3.6–3.14]."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType


class EventType(StrEnum):
    """The eleven event types of the reference API."""

    THOUGHT_GENERATED = "thought_generated"
    HYPOTHESIS_RAISED = "hypothesis_raised"
    CHECK_REQUESTED = "check_requested"
    CHECK_RESULT = "check_result"
    PROPOSAL_CREATED = "proposal_created"
    PROPOSAL_VERIFIED = "proposal_verified"
    PROPOSAL_REJECTED = "proposal_rejected"
    ACTION_EXECUTED = "action_executed"
    PERSONA_SPAWNED = "persona_spawned"
    PERSONA_REAPED = "persona_reaped"
    SNAPSHOT_COMPRESSED = "snapshot_compressed"


class OwnEventType(StrEnum):
    """Types that this project adds; event streams carry them under another name [3.14]."""

    INBOX_RECEIVED = "inbox_received"
    INBOX_HANDLED = "inbox_handled"
    INBOX_DROPPED = "inbox_dropped"
    BUDGET_PAUSED = "budget_paused"
    BUDGET_RESUMED = "budget_resumed"
    DEPENDENCY_TIMED_OUT = "dependency_timed_out"


class Phase(StrEnum):
    """The four phases of the loop, in order."""

    OBSERVE = "observe"
    REFLECT = "reflect"
    TEST = "test"
    COMPRESS = "compress"


class Source(StrEnum):
    """Where a thought's text came from."""

    MODEL = "model"
    FALLBACK = "fallback"


TOKENS_MOST = 2**53
"""The most tokens that a count may say: what is more exact than a float is not counted."""

TokenCount = Annotated[int, Meta(ge=0, le=TOKENS_MOST)]


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens that one answer cost, as the backend reports them."""

    prompt_tokens: TokenCount | None = None
    completion_tokens: TokenCount | None = None
    total_tokens: TokenCount | None = None


class PersonaRef(Struct, frozen=True):
    """The persona as it stands in a thought's payload."""

    id: str
    name: str
    role: str


class ThoughtPayload(Struct, frozen=True, kw_only=True):
    """The payload of a phase's event. Its keys but the last two are always there, null if unknown [3.6]."""

    phase: Phase
    thought_count: int
    thinking: str
    source: Source
    persona: PersonaRef
    context_event_count: int
    model: str | None
    finish_reason: str | None
    usage: Usage | None
    latency_ms: int
    error: str | None
    context_dropped: int | UnsetType = UNSET
    """Events of the context that the model's window had no room for; not there where none was [H12]."""

    charter_trimmed: int | UnsetType = UNSET
    """Characters of the charter that the model's window had no room for; not there where none was [H11]."""

    context_allocation: dict[str, str] | UnsetType = UNSET
    """Per source `satisfied`, `floor` or `dropped`, where there are more than its own events [H13]."""

    inbox_item_ids: list[str] | UnsetType = UNSET
    """Items that it took up, best first; not there where there were none [A5]."""

    novelty: float | UnsetType = UNSET
    """0 to 1: how little it repeats of recent thoughts and of its prompt; of thoughts by a model [A19]."""

    repeats: bool | UnsetType = UNSET
    """True: its novelty is below the threshold, so it is no progress and wakes nobody [A19]."""

    echo: bool | UnsetType = UNSET
    """True: its cycle is about nothing but what others share, so what it shares wakes nobody [A11]."""


class RollUpPayload(Struct, frozen=True, kw_only=True):
    """The payload of a `snapshot_compressed` without a persona: what a swarm remembers [A18]."""

    thinking: str
    source: Source
    model: str | None
    usage: Usage | None
    error: str | None
    persona_scope: list[str]
    cold_snapshot_count: int
    hot_event_count: int
    warm_fact_count: int


class CheckResultPayload(Struct, frozen=True, kw_only=True):
    """The payload of a test phase's `check_result` [3.7]."""

    phase: Phase
    thought_count: int
    result_excerpt: str
    source: Source
    model: str | None


class ProposalCreatedPayload(Struct, frozen=True, kw_only=True):
    """The payload of `proposal_created` [3.8]."""

    proposal_id: str
    title: str
    rationale_excerpt: str
    source: Source
    model: str | None


class PersonaSpawnedPayload(Struct, frozen=True, kw_only=True):
    """The payload of `persona_spawned` [2.7]."""

    name: str
    role: str
    depth: int


class PersonaReapedPayload(Struct, frozen=True, kw_only=True):
    """The payload of `persona_reaped` [2.8]."""

    reason: str
    cascade: bool


class LoopStoppedPayload(Struct, frozen=True, kw_only=True):
    """The payload of the `check_result` that announces a stop [4.2]."""

    stopped: bool
    reason: str


class Event(Struct, frozen=True, kw_only=True):
    """A `ThoughtEvent` being made."""

    id: str
    event_type: str
    """An `EventType` or an `OwnEventType`."""

    persona_id: str | None
    swarm_id: str | None
    timestamp: datetime
    payload: Any
    """One of the payloads above."""


class ThoughtEvent(Struct, frozen=True, kw_only=True):
    """One event of the stream, as clients read it [3.14]."""

    id: str
    event_type: str
    persona_id: str | None
    swarm_id: str | None
    timestamp: datetime
    payload: dict[str, Any]


class SequencedEvent(Struct, frozen=True, kw_only=True):
    """An event with its place in the event stream."""

    sequence: Annotated[int, Meta(ge=1)]
    event: ThoughtEvent


class EventPage(Struct, frozen=True, kw_only=True):
    """Events after a sequence, in stream order."""

    events: list[SequencedEvent]
    next_after: Annotated[int, Meta(ge=0)]
    """Pass it as `after` to go on."""

    skipped: Annotated[int, Meta(ge=0)]
    """Events after `after` that the stream's bound had evicted already."""

    first_sequence: Annotated[int, Meta(ge=0)]
    last_sequence: Annotated[int, Meta(ge=0)]


class ProposalRisk(StrEnum):
    """How much harm a proposal could do."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class ProposalStatus(StrEnum):
    """Where a proposal stands; nothing in this project ever executes one."""

    CREATED = "created"
    VERIFIED = "verified"
    REJECTED = "rejected"
    EXECUTED = "executed"


class Proposal(Struct, frozen=True, kw_only=True):
    """Something a persona would do, written down instead [3.14]."""

    id: str
    persona_id: str
    title: str
    rationale: str
    evidence_refs: list[str]
    risk: ProposalRisk
    status: ProposalStatus
    created_at: datetime


class MemorySnapshot(Struct, frozen=True, kw_only=True):
    """What a compress phase has distilled [3.9]."""

    id: str
    generated_at: datetime
    swarm_id: str | None
    persona_scope: list[str]
    summary: str
    hot_event_count: Annotated[int, Meta(ge=0)]
    warm_fact_count: Annotated[int, Meta(ge=0)]
    cold_snapshot_count: Annotated[int, Meta(ge=0)]
    metadata: dict[str, Any]


class SnapshotScope(StrEnum):
    """Whose memory a snapshot is."""

    PERSONA = "persona"
    SWARM = "swarm"
    """A roll-up of those that a swarm's personas share [A18]."""


class SequencedSnapshot(Struct, frozen=True, kw_only=True):
    """A snapshot with its place in the snapshot stream."""

    sequence: Annotated[int, Meta(ge=1)]
    snapshot: MemorySnapshot


class SnapshotPage(Struct, frozen=True, kw_only=True):
    """Snapshots after a sequence, in stream order."""

    snapshots: list[SequencedSnapshot]
    next_after: Annotated[int, Meta(ge=0)]
    """Pass it as `after` to go on."""

    first_sequence: Annotated[int, Meta(ge=0)]
    last_sequence: Annotated[int, Meta(ge=0)]
