"""Personas: identity, policy, state, the requests that change them, and their lineage [2.1–2.10]."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct, structs

from libs.contracts.limits import (
    DEPENDENCIES,
    IMPORTED_AT_ONCE,
    U32,
    U64,
    U64_MAX,
    Charter,
    Identifier,
    Name,
    Reason,
    Role,
)
from libs.contracts.lives import PersonaLife

Dependencies = Annotated[list[Identifier], Meta(max_length=DEPENDENCIES)]


class PersonaStatus(StrEnum):
    """Where a persona stands in its life."""

    ACTIVE = "active"
    IDLE = "idle"
    REAPED = "reaped"
    ERROR = "error"


class PersonaPolicy(Struct, frozen=True, kw_only=True):
    """Bounds a persona lives within."""

    max_spawn_depth: U32
    max_branching_factor: U32
    token_credits_per_minute: U32
    cpu_credits_per_minute: U32
    idle_ttl_secs: U64
    share_memory: bool


class PolicyRequest(Struct, frozen=True, kw_only=True):
    """A policy as a client sends it: what is missing comes from the parent, else from the default [2.1]."""

    max_spawn_depth: U32 | None = None
    max_branching_factor: U32 | None = None
    token_credits_per_minute: U32 | None = None
    cpu_credits_per_minute: U32 | None = None
    idle_ttl_secs: U64 | None = None
    share_memory: bool | None = None

    def __post_init__(self) -> None:
        if self.idle_ttl_secs is not None and self.idle_ttl_secs > U64_MAX:
            raise ValueError(f"Expected `int` <= {U64_MAX} for `idle_ttl_secs`")

    def over(self, base: PersonaPolicy) -> PersonaPolicy:
        """Return `base` with every field that this request names replaced."""
        named = {key: value for key, value in structs.asdict(self).items() if value is not None}
        return structs.replace(base, **named)


class PersonaIdentity(Struct, frozen=True, kw_only=True):
    """Who a persona is. Never changes."""

    id: Identifier
    name: Name
    role: Role
    charter: Charter
    swarm_id: Identifier | None = None
    parent_id: Identifier | None = None
    depth: U32
    created_at: datetime


class PersonaRuntimeState(Struct, frozen=True, kw_only=True):
    """A persona as the API shows it: the registry's record joined with the scheduler's counters."""

    identity: PersonaIdentity
    policy: PersonaPolicy
    status: PersonaStatus
    thought_count: U64 = 0
    last_tick_at: datetime | None = None
    updated_at: datetime
    waiting_for: list[str] = []
    """Personas that each of its thoughts waits for, sorted [A15]."""

    life: PersonaLife | None = None
    """Its inner state [A6]; null right after it was made."""


class SpawnPersonaRequest(Struct, frozen=True, kw_only=True):
    """A child to be spawned under the persona that the URL names."""

    persona_id: Identifier | None = None
    name: Name
    role: Role
    charter: Charter
    swarm_id: Identifier | None = None
    policy: PolicyRequest | None = None

    def under(self, parent_id: str) -> CreatePersonaRequest:
        """Return the creation request with its parent named."""
        return CreatePersonaRequest(**structs.asdict(self), parent_id=parent_id)


class CreatePersonaRequest(SpawnPersonaRequest, frozen=True, kw_only=True):
    """A persona to be created, a root unless `parent_id` is given."""

    parent_id: Identifier | None = None


class ImportedPersona(CreatePersonaRequest, frozen=True, kw_only=True):
    """A persona that is to be there, under an id of the client's: asked twice, it is the same one."""

    persona_id: Identifier


class ImportPersonasRequest(Struct, frozen=True, kw_only=True):
    """Personas to be created unless they are there already; a parent comes before its children."""

    personas: Annotated[list[ImportedPersona], Meta(min_length=1, max_length=IMPORTED_AT_ONCE)]


class RefusedPersona(Struct, frozen=True, kw_only=True):
    """A persona that was not imported, and why."""

    index: Annotated[int, Meta(ge=0)]
    """Its place in the request, from 0."""

    persona_id: str
    status: int
    """The HTTP status with which creating it alone would have been refused."""

    detail: str


class ImportPersonasResponse(Struct, frozen=True, kw_only=True):
    """What an import did; every persona of the request is counted once."""

    created: Annotated[int, Meta(ge=0)]
    existing: Annotated[int, Meta(ge=0)]
    """Those that were there already, as described."""

    refused: list[RefusedPersona]


class DependenciesRequest(Struct, frozen=True, kw_only=True):
    """Whom a persona waits for from now on, and who waits for it; what is left out stays as it is [A15]."""

    waiting_for: Dependencies | None = None
    """It is due once each of these has completed a thought since its own last one."""

    notify: Dependencies | None = None
    """These are due once it has: they, and nobody else, wait for it."""


class PersonaDependencies(Struct, frozen=True, kw_only=True):
    """Whom a persona waits for, and who waits for it, each sorted by id."""

    persona_id: str
    waiting_for: list[str]
    notify: list[str]


class ReapPersonaRequest(Struct, frozen=True, kw_only=True):
    """How far a reap reaches, and why."""

    cascade: bool | None = None
    reason: Reason | None = None


class ReapPersonaResponse(Struct, frozen=True, kw_only=True):
    """What a reap has reaped, in the order in which it was announced."""

    reaped_ids: list[str]
    count: Annotated[int, Meta(ge=0)]


class LineageNode(Struct, frozen=True, kw_only=True):
    """A persona's place in the tree."""

    persona_id: str
    parent_id: str | None
    children: list[str]
    depth: U32
    status: PersonaStatus


class LineageGraph(Struct, frozen=True, kw_only=True):
    """Every persona that ever was; nodes, children and roots are sorted by id [2.10]."""

    nodes: list[LineageNode]
    roots: list[str]
    total_edges: Annotated[int, Meta(ge=0)]


class PersonaPage(Struct, frozen=True, kw_only=True):
    """One page of personas, sorted by id."""

    personas: list[PersonaRuntimeState]
    next_after: str | None
    """Pass it as `after` for the next page; null on the last one."""

    total: Annotated[int, Meta(ge=0)]
    """How many personas match the filter on all pages."""
