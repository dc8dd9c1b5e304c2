"""Roll-ups of what a swarm's personas remember [A18]: what compressors ask thinkers and shards' owners."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from libs.contracts.lives import Spent
from libs.contracts.place import Place
from libs.contracts.thoughts import Source, Usage

ROLLED_UP_MOST = 16
"""Snapshots that one roll-up folds in at most."""

ROLL_UP = "(roll-up)"
"""Stands for a role where what roll-ups cost is shown."""

Count = Annotated[int, Meta(ge=0)]


def spender(swarm_id: str) -> str:
    """Return who has spent what a swarm's roll-ups cost, where else a persona's id stands."""
    return f"{ROLL_UP} {swarm_id}"


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
    asked: bool = True
    """False: no model was asked."""

    cpu_ms: Count = 0
    """Milliseconds of thinking that it cost."""


class RollUpTerms(Struct, frozen=True, kw_only=True):
    """Under what a summary's expected cost is set aside; whoever journals the roll-up is told it again."""

    account: str
    """The persona whose credits they are."""

    number: Count
    """Stands for a thought's number there."""

    window: Count


class RollUpAsk(Struct, frozen=True, kw_only=True):
    """May a model be asked to sum up? Repeated under its id it sets no more aside [A16]."""

    id: str
    """The roll-up's."""

    swarm_id: str
    persona_id: str
    """Whose snapshot is the newest of those that are folded in: the root of its tree pays."""

    chars: Count
    """How many characters the model is told."""

    first: Place | None = None
    """See `RollUpRequest.first`."""


class RollUpAnswer(Struct, frozen=True, kw_only=True):
    """Whether a model may be asked to sum up."""

    refused: str | None = None
    """Why not; null where it may."""

    terms: RollUpTerms | None = None
    """Null where it may not, and where credits are not enforced."""

    behind: Place | None = None
    """See `RollUpReply.behind`: then nothing is set aside, and no model is to be asked."""


class RollUpRequest(Struct, frozen=True, kw_only=True):
    """Journal a roll-up, once: nothing that another one of its swarm has folded in is folded in again."""

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

    spent: Spent = Spent()
    """What asking a model has cost, whatever came of it: one thought where one was asked."""

    terms: RollUpTerms | None = None
    """Null: what was set aside, if anything, stays so until its minute is over."""

    first: Place | None = None
    """Where the journal has the oldest snapshot that it is about; null from older compressors."""

    last: Place | None = None
    """Where it has the newest."""


class RollUpReply(Struct, frozen=True, kw_only=True):
    """The roll-up is in the journal, unless others have folded in some of it."""

    repeated: bool = False
    """It had been there before."""

    behind: Place | None = None
    """It is not journaled: the swarm's memory up to this place is folded in already."""
