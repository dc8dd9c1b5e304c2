"""Roll-ups of what a swarm's personas remember [A18]: what compressors ask thinkers and shards' owners."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from libs.contracts.thoughts import Source, Usage

ROLLED_UP_MOST = 16
"""Snapshots that one roll-up folds in at most."""

Count = Annotated[int, Meta(ge=0)]


class SharedSnapshot(Struct, frozen=True, kw_only=True):
    """A snapshot of a persona that shares its memory, as a roll-up folds it in."""

    persona_id: str
    name: str
    role: str
    summary: str
    hot_event_count: Count
    by_model: bool


class SummaryRequest(Struct, frozen=True, kw_only=True):
    """Sum up what personas of a swarm remember. Thinkers that have a model answer, one of them."""

    swarm_id: str
    snapshots: list[SharedSnapshot]
    """Oldest first."""

    within_ms: Count
    """How long whoever asks waits, in milliseconds."""


class SummaryReply(Struct, frozen=True, kw_only=True):
    """What a model made of it; `text` is null where it made nothing, and `error` says why."""

    text: str | None
    told: Count
    """How many of the snapshots, the newest, the model's window had room for."""

    model: str | None
    usage: Usage | None
    error: str | None


class RollUpRequest(Struct, frozen=True, kw_only=True):
    """Journal a roll-up, once: repeated under its id it changes nothing more."""

    id: str
    """Says what is folded in; the same for the same snapshots."""

    swarm_id: str
    persona_scope: list[str]
    """Whose snapshots are folded in, each persona once."""

    summary: str
    cold_snapshot_count: Count
    """How many snapshots are folded in."""

    hot_event_count: Count
    """Events that were hot when those were made, all together."""

    warm_fact_count: Count
    source: Source
    model: str | None
    usage: Usage | None
    error: str | None = None
    """Why no model made the summary, where one might have."""


class RollUpReply(Struct, frozen=True, kw_only=True):
    """The roll-up is in the journal."""

    repeated: bool = False
    """It had been there before."""
