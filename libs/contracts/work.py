"""Work for thinkers: chunks, grants and results.

A chunk lies in the work queue until each of its thoughts is settled. It only says whose thoughts are due.
Before a thinker thinks it asks the shard's owner for what is still wanted of it; afterwards it sends the
thoughts until the owner has settled them.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from libs.contracts.journal import ThoughtEntry
from libs.contracts.lives import PersonaLife


class ContextLine(Struct, frozen=True, array_like=True):
    """An event as a prompt shows it."""

    event_type: str
    timestamp: str
    excerpt: str
    """The payload's JSON, trimmed to 220 characters."""


class Ticket(Struct, frozen=True, array_like=True):
    """A thought that is due, as the work queue names it."""

    persona_id: str
    thought_count: int
    tick_at: datetime


class TakenItem(Struct, frozen=True, array_like=True):
    """An inbox item that a thought takes up [A5]."""

    sequence: int
    """Its place in the INBOX stream."""

    id: str
    domain: str
    source_id: str
    content: str
    timestamp: datetime
    post_id: str | None = None
    """The swarm-wide post that it is one persona's copy of."""

    attempts: int = 0
    """Thoughts that took it up before, and came to nothing."""

    may_answer: bool = True
    """False: as many personas as may have answered the post, or are about to."""

    answers: list[str] = []
    """What others have answered the post."""

    priority: float | None = None
    """As its sender gave it."""


class WorkItem(Struct, frozen=True, array_like=True):
    """One thought to be thought, its context frozen when its tick began [3.5]."""

    persona_id: str
    name: str
    role: str
    charter: str
    swarm_id: str | None
    thought_count: int
    tick_at: datetime
    context: list[ContextLine]
    """The newest 8 events, oldest first. Charter and context are empty where the thinker reads neither."""

    context_events: int = 0
    """How many events the context holds."""

    inbox: list[TakenItem] = []
    """What it takes up, best first."""

    shared: list[ContextLine] = []
    """What its swarm remembers, oldest first [A18]."""

    recent: list[bytes] = []
    """Signatures of its newest thoughts by a model [A19]."""

    shares: bool = False
    """Its snapshots are context for its swarm, and go into roll-ups [A18]."""

    echo: bool = False
    """Its cycle is about nothing but what others share."""


class Chunk(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of the work queue: at most `CHUNK_PERSONAS` thoughts of one shard and one run."""

    id: str
    shard: int
    run: int
    items: list[Ticket]
    alone: bool = False
    """Thinkers have ended while they thought of it: a thinker thinks of one such chunk at a time."""

    traces: dict[str, str] = {}
    """By persona, the `traceparent` of those of its thoughts that are traced."""


class GivenUp(Struct, frozen=True, kw_only=True):
    """The body of a dead letter: the thoughts of a chunk that were given up."""

    shard: int
    run: int
    items: list[WorkItem]


class GrantRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A thinker holds this delivery of a chunk and asks what of it is still wanted."""

    chunk: str
    shard: int
    sequence: int
    """The chunk's sequence in the work queue; a second copy of a chunk has another one."""

    deliveries: int
    """How often the broker knows to have given the chunk to a thinker; once killed it has forgotten some."""

    thinker: str
    reads: bool = True
    """Whether anything reads charters and contexts."""

    begin: int = 0
    """The first of the chunk's items that is asked for; see `Grant.next`."""


class StillThinking(Struct, frozen=True, kw_only=True):
    """A thinker's word, every few seconds, that it thinks of what it was granted of a chunk."""

    chunk: str
    thinker: str


class Grant(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the thinker is to think of a chunk; nothing: acknowledge and forget it."""

    items: list[WorkItem] = []
    next: int = 0
    """One message had no room for more: ask again from this one of the chunk's items on. 0: that was all."""

    traces: dict[str, str] = {}
    """See `Chunk.traces`."""


class Results(Struct, frozen=True, kw_only=True):
    """Thoughts of one chunk, some or all."""

    chunk: str
    shard: int
    thinker: str
    thoughts: list[ThoughtEntry]


class Settled(Struct, frozen=True, kw_only=True):
    """The owner's answer to results, sent once every thought in them is stored or stale."""

    stored: int
    stale: int


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A message that was given up, kept for people to read."""

    subject: str
    reason: str
    deliveries: int
    at: datetime
    body: bytes
    cut: bool = False
    """The body is only the beginning of what was given up."""


class SchedulerStatus(Struct, frozen=True, kw_only=True):
    """What a scheduler says when asked."""

    instance: str
    ticking: bool
    run: int
    last_tick_at: datetime | None
    """By its wall clock as it was then; where it has not ticked yet, as its shards' journals say."""

    shards: int
    lag_ms: int = 0
    """Milliseconds since the oldest thought that is under way was dispatched."""

    personas: int = 0
    """Active personas of the shards that it owns, each of which it ticks while the loop runs."""

    missing: list[str] = []
    """Shards that fall to it and that it cannot take over, each with the reason."""

    tick_age_ms: int | None = None
    """Milliseconds since its last tick, by a clock that does not jump; null where it has not ticked yet."""


class Waiting(Struct, frozen=True, kw_only=True):
    """A scheduler in which somebody has waited for its turn for long says so, a few times a second [A14]."""

    boot: str
    """Unique to this start of the process."""

    waited_s: float | None
    """For how many seconds its first has waited; null: nobody waits for long any more."""

    in_turn: int
    """Thoughts that it has begun in their turn since it last said anything."""

    ahead: int
    """Urgent ones that it has begun ahead of their turn since then."""


class CountersQuery(Struct, frozen=True, kw_only=True):
    """Show the counters of personas of one shard."""

    persona_ids: list[str]


class Counters(Struct, frozen=True, array_like=True):
    """What the scheduler keeps of a persona that the API shows."""

    thought_count: int
    last_tick_at: datetime | None
    life: PersonaLife | None = None


class CountersReply(Struct, frozen=True, kw_only=True):
    """Counters, in the order asked for."""

    counters: list[Counters]
