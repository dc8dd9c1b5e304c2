"""What a scheduler tells of a persona's life: its inner state, its credits, its inbox [A2, A6, A16]."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from libs.contracts.accounts import Credit
from libs.contracts.inbox import HeldItem

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]


class PausedFor(Struct, frozen=True, kw_only=True):
    """Whose credits a persona waits for."""

    account: str
    credit: Credit
    since: datetime
    resumes_at: datetime | None
    """When the minute ends; null where a thought alone costs more than a whole minute has."""


class PersonaLife(Struct, frozen=True, kw_only=True):
    """The inner state of a persona, worked out when it was asked for [A6]."""

    energy: Share
    attention: Share
    compute_budget: Share
    """Which part of this minute's credits is left, of the scarcer kind.

    Under `adaptive` what is reserved, and what its descendants spend, is gone from it too; under `fixed` it
    is of its own thoughts.
    """

    mood: str
    """`idle`, `active`, `tired` or `overwhelmed`."""

    inbox_load: Count
    response_count: Count
    """Responses of the last 60 s."""

    last_activity_at: datetime | None
    next_look_at: datetime | None
    """When it looks next whether it has reason to think; null under `fixed`, and while it thinks."""

    idle_secs: Count
    """Seconds without progress; the clock of `idle_ttl_secs`, as far as that has run [A17]."""

    tokens: Count
    """Of all its thoughts; so is `cpu_ms`."""

    cpu_ms: Count
    paused: PausedFor | None = None
    waiting_for: list[str] = []
    """Personas whose next thought it waits for [A15]."""


class DependencyTimedOutPayload(Struct, frozen=True, kw_only=True):
    """The payload of `dependency_timed_out`: a persona waits no longer for another one [A15]."""

    dependency: str
    reason: str
    """`reaped`, or `silent` for too long; who is silent is waited for again once it thinks."""


class InboxQuery(Struct, frozen=True, kw_only=True):
    """Show what a persona's inbox holds, the best first, at most so many."""

    persona_id: str
    limit: int = 100


class InboxReply(Struct, frozen=True, kw_only=True):
    """What an inbox holds."""

    items: list[HeldItem]
    held: Count
    """How many there are in all."""


class SpendQuery(Struct, frozen=True, kw_only=True):
    """Show what a shard's personas have spent."""


class Spent(Struct, frozen=True, array_like=True):
    """Thoughts and what they cost."""

    thoughts: Count = 0
    tokens: Count = 0
    cpu_ms: Count = 0

    def plus(self, other: Spent) -> Spent:
        """Return both together."""
        return Spent(self.thoughts + other.thoughts, self.tokens + other.tokens, self.cpu_ms + other.cpu_ms)


OTHERS = "(others)"
"""Swarm and role of those that are counted together because there are too many to keep them apart."""


class SpentInHour(Struct, frozen=True, array_like=True):
    """What a swarm's personas of one role have spent in one hour."""

    hour: int
    """Seconds since the epoch divided by 3600, rounded down."""

    swarm_id: str | None
    role: str
    spent: Spent


class SpentByPersona(Struct, frozen=True, array_like=True):
    """What one persona has spent in its whole life."""

    persona_id: str
    spent: Spent


class SpendReply(Struct, frozen=True, kw_only=True):
    """What a shard's personas have spent: by persona, and by hour for the newest 48 hours."""

    personas: list[SpentByPersona]
    hours: list[SpentInHour]
