"""The registry's records, its loop state, and its request/reply messages."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from libs.contracts.personas import (
    DependenciesRequest,
    PersonaIdentity,
    PersonaPolicy,
    PersonaStatus,
    ReapPersonaRequest,
)


class ReapNote(Struct, frozen=True):
    """A reap that is decided but whose `persona_reaped` is not announced yet."""

    reason: str
    cascade: bool
    at: datetime


class PersonaRecord(Struct, frozen=True, kw_only=True):
    """A persona as the registry keeps it."""

    identity: PersonaIdentity
    policy: PersonaPolicy
    status: PersonaStatus
    updated_at: datetime
    reaping: ReapNote | None = None
    waiting_for: list[str] = []
    """Personas whose next thought each of its thoughts waits for, sorted [A15]."""


class StoredPersona(Struct, frozen=True, kw_only=True):
    """A value of the `personas` bucket: a record and the journal sequence that last changed it."""

    sequence: int
    record: PersonaRecord


class LoopPhase(StrEnum):
    """The states a run of the loop passes through; `stopped` leads to the next run's `running`."""

    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


class LoopState(Struct, frozen=True, kw_only=True):
    """The desired state of the loop, remembered across restarts [4.1]."""

    run: int
    """Rises by one with each real start; 0 before the first. Where no earlier state is known, it begins above
    all that there can have been."""

    phase: LoopPhase
    interval_ms: int
    started_at: datetime | None = None
    stop_reason: str | None = None
    """Why the run is being stopped, while it is."""

    interval_chosen: bool = True
    """Whether a start request chose the interval; one that an older version stored counts as chosen."""


class StoredLoop(Struct, frozen=True, kw_only=True):
    """The value `loop` of the `control` bucket."""

    sequence: int
    loop: LoopState


class ReapCommand(Struct, frozen=True, kw_only=True):
    """Reap this persona."""

    persona_id: str
    request: ReapPersonaRequest


class DependenciesCommand(Struct, frozen=True, kw_only=True):
    """Set what this persona waits for, and who waits for it."""

    persona_id: str
    request: DependenciesRequest


class PersonaQuery(Struct, frozen=True, kw_only=True):
    """Show one persona."""

    persona_id: str


class PersonaListQuery(Struct, frozen=True, kw_only=True):
    """Show a page of personas sorted by id, those after `after`."""

    swarm_id: str | None = None
    status: PersonaStatus | None = None
    after: str | None = None
    limit: int = 100


class PersonaListReply(Struct, frozen=True, kw_only=True):
    """A page of the registry's records."""

    records: list[PersonaRecord]
    next_after: str | None
    total: int


class LineageQuery(Struct, frozen=True, kw_only=True):
    """Show a page of the tree, nodes after `after`, as the tree was at journal sequence `as_of`."""

    after: str | None = None
    as_of: int | None = None


class LineageEntry(Struct, frozen=True, array_like=True):
    """A node without its children."""

    persona_id: str
    parent_id: str | None
    depth: int
    status: PersonaStatus


class LineagePage(Struct, frozen=True, kw_only=True):
    """A page of the tree; the first page fixes `as_of` for those that follow."""

    entries: list[LineageEntry]
    as_of: int
    next_after: str | None


class RegistryStatus(Struct, frozen=True, kw_only=True):
    """What the registry knows of the loop and of how many there are."""

    enabled: bool
    loop: LoopState
    persona_count: int
    active_persona_count: int
    default_policy: PersonaPolicy | None = None
    """Of roots whose request says none; null from an older registry."""
