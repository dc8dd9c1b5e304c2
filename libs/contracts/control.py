"""Starting, stopping and watching the loop [4.1–4.3]."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from libs.contracts.limits import IntervalMs, Reason
from libs.contracts.personas import CreatePersonaRequest, PersonaPolicy
from libs.contracts.presence import Circuit
from libs.contracts.registry import LoopPhase


class StartCognitionRequest(Struct, frozen=True, kw_only=True):
    """How the loop is to run; `seed_persona` counts only while no persona exists at all."""

    loop_interval_ms: IntervalMs | None = None
    seed_persona: CreatePersonaRequest | None = None


class StopCognitionRequest(Struct, frozen=True, kw_only=True):
    """Why the loop is to stop; a reason is announced in the stream."""

    reason: Reason | None = None


class ThinkerCircuit(Circuit, frozen=True, kw_only=True):
    """The circuit breaker of a living thinker."""

    thinker: str
    """The process's instance name."""


class CognitionStatus(Struct, frozen=True, kw_only=True):
    """The loop as it is now; `running` only while some scheduler is really ticking."""

    enabled: bool
    running: bool
    loop_interval_ms: Annotated[int, Meta(ge=100)]
    started_at: datetime | None
    last_tick_at: datetime | None
    persona_count: Annotated[int, Meta(ge=0)]
    active_persona_count: Annotated[int, Meta(ge=0)]
    events_buffered: Annotated[int, Meta(ge=0)]
    snapshots_buffered: Annotated[int, Meta(ge=0)]
    lag_ms: Annotated[int, Meta(ge=0)] = 0
    """Milliseconds since the oldest thought that is under way was due: how far thinking is behind."""

    ticked_persona_count: Annotated[int, Meta(ge=0)] = 0
    """Of the active personas those that some scheduler ticks now [H4]."""

    not_ticked_because: str | None = None
    """Why the other active ones are not; null where there are none."""

    default_policy: PersonaPolicy | None = None
    """Of personas without a parent whose request says none; null where the registry is too old to say."""

    circuits: list[ThinkerCircuit] = []
    """Of each thinker that asks an endpoint, whether it does so now, sorted by instance name."""

    phase: LoopPhase | None = None
    """What is wanted of the loop: `running` also while no scheduler ticks it."""
