"""Records of the JOURNAL stream: the only place where a thought or a change of the tree is committed.

`j.<shard>` holds `ShardRecord`s, appended by the shard's owner under an expected sequence, and markers
(`number` null), appended by the registry without one. `j.registry` holds `RegistryRecord`s. Events stand
in both in their final bytes, so that what is published never depends on who publishes it.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import UNSET, Struct, UnsetType

from libs.contracts.accounts import AccountsCheckpoint, Credit, CreditChange, Credits, Settlement
from libs.contracts.inbox import Outcome, PostDecision
from libs.contracts.lives import Spent, SpentInHour
from libs.contracts.place import Place
from libs.contracts.registry import PersonaRecord


class JournalEvent(Struct, frozen=True, array_like=True):
    """An event, with what its subject is made of."""

    swarm_id: str | None
    persona_id: str | None
    event_type: str
    event: msgspec.Raw


class ItemSettled(Struct, frozen=True, array_like=True):
    """What became of an inbox item that a thought took up."""

    sequence: int
    """The item's place in the INBOX stream."""

    outcome: Outcome
    post_id: str | None = None
    """The swarm-wide post that it is a copy of, where its persona had a place to answer that [A5]."""


class ItemArrived(Struct, frozen=True, array_like=True):
    """An item that came into an inbox, as it was received."""

    persona_id: str
    sequence: int
    """The item's place in the INBOX stream."""

    base: int
    """Its priority when it arrived, in hundredths [A3]."""

    source: bytes
    """A digest of where it came from, empty where that is not known."""

    id: bytes
    """A digest of its id."""


class Effort(Struct, frozen=True, array_like=True):
    """What a thought cost, and what came of it beside its events.

    A plain declared fallback has none, unless it is a snapshot that its persona shares.
    """

    role: str
    tokens: int
    """Of prompt and completion, as the model reports them; 0 where it does not."""

    cpu_ms: int
    """Milliseconds of thinking; of a batch each thought has its share."""

    by_model: bool
    failed: bool
    """No model's answer came, though one was wanted."""

    signature: bytes = b""
    """Of the text, to tell later thoughts that repeat it [A19]."""

    novelty: float | None = None
    items: list[ItemSettled] = []
    responded: bool = False
    shares: bool = False
    """The persona shares its memory: a snapshot of this thought may go into a roll-up [A18]."""

    asked: bool = True
    """False: no model was asked, since it is known and said that none can answer now."""

    repeats: bool = False
    """Its novelty was below the threshold where it was made: it is no progress, and wakes nobody [A19]."""


class RollUpCost(Struct, frozen=True, array_like=True):
    """What asking a model for a roll-up of a swarm's memory has cost."""

    swarm_id: str
    at: datetime
    spent: Spent


class Pause(Struct, frozen=True, array_like=True):
    """A persona waits for credits [A16]."""

    persona_id: str
    account: str
    credit: Credit
    since: datetime
    resumes_at: datetime | None


class ThoughtEntry(Struct, frozen=True, array_like=True):
    """One committed thought and all its events, in the order in which they are published [3.15]."""

    persona_id: str
    thought_count: int
    run: int
    swarm_id: str | None
    tick_at: datetime
    events: list[tuple[str, msgspec.Raw]]
    """Event type and the event's JSON."""

    effort: Effort | None = None


class ShardRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of a shard's journal subject."""

    number: int | None = None
    """Rises by one with each record of an owner; null on a marker, which fences the owner's next append."""

    owner: str = ""
    """The boot id of the process that appended it."""

    claim: bool = False
    """An owner has taken over: whoever owned the shard before is fenced."""

    thoughts: list[ThoughtEntry] = []
    halt: int | None = None
    """Thoughts of this run and of earlier ones are refused from here on."""

    reap: list[str] = []
    """Thoughts of these personas are refused from here on."""

    events: list[JournalEvent] = []
    """Published behind those of the thoughts."""

    received: int = 0
    """Messages of the shard in the INBOX stream up to this one are in inboxes, or dropped."""

    arrived: list[ItemArrived] = []
    dropped: list[int] = []
    """Messages of the INBOX stream that are to be deleted: no inbox takes them."""

    pauses: list[Pause] = []
    resumed: list[str] = []
    """Personas that wait for credits no more."""

    credits: list[CreditChange] = []
    rolled_up: list[tuple[str, str]] = []
    """Swarms whose roll-up stands among the events, and the ids of what was asked for."""

    traces: dict[str, str] = {}
    """By persona, the `traceparent` of those of its thoughts that are traced."""

    event_traces: dict[int, str] = {}
    """By their place in `events`, from 0, the `traceparent` of those that are traced."""

    roll_up_costs: list[RollUpCost] = []
    """Of those roll-ups for which a model was asked."""

    folded_in: dict[str, Place] = {}
    """By swarm of those roll-ups, the place in the journal up to which its snapshots are folded in."""


class Spawned(Struct, frozen=True, tag="spawned"):
    """A persona exists."""

    persona: PersonaRecord


class Reaping(Struct, frozen=True, tag="reaping"):
    """These personas are reaped; their events follow once their shards are fenced."""

    persona_ids: list[str]
    reason: str
    cascade: bool
    at: datetime


class Reaped(Struct, frozen=True, tag="reaped"):
    """The reap of these personas is announced: their events stand in the same record."""

    persona_ids: list[str]


class DependenciesSet(Struct, frozen=True, tag="dependencies_set"):
    """A persona waits for these from now on, and for nobody else [A15]."""

    persona_id: str
    waiting_for: list[str]
    at: datetime


class Started(Struct, frozen=True, tag="started"):
    """The loop runs."""

    run: int
    interval_ms: int
    at: datetime
    interval_chosen: bool = True
    """See `LoopState.interval_chosen`."""


class IntervalSet(Struct, frozen=True, tag="interval_set"):
    """The loop has another interval, or the same one, which is now chosen."""

    interval_ms: int
    interval_chosen: bool = True
    """See `LoopState.interval_chosen`."""


class Stopping(Struct, frozen=True, tag="stopping"):
    """The loop is to stop: owners cease and halt their shards."""

    run: int
    reason: str | None


class Stopped(Struct, frozen=True, tag="stopped"):
    """Every shard is halted."""

    run: int


Change = Spawned | Reaping | Reaped | DependenciesSet | Started | IntervalSet | Stopping | Stopped


class RegistryRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of `j.registry`: changes that happen together or not at all."""

    number: int
    owner: str
    changes: list[Change] = []
    events: list[JournalEvent] = []
    event_traces: dict[int, str] = {}
    """See `ShardRecord.event_traces`."""


class PublicRecord(Struct, frozen=True, kw_only=True):
    """What the publisher reads of either kind of record."""

    number: int | None = None
    thoughts: list[ThoughtEntry] = []
    events: list[JournalEvent] = []
    traces: dict[str, str] | UnsetType = UNSET
    event_traces: dict[int, str] | UnsetType = UNSET


class StoredLife(Struct, frozen=True, array_like=True):
    """What a checkpoint keeps of a persona's life."""

    state: list[float]
    """Energy, attention, last activity, and when it responded; see `services.scheduler.inner_state`."""

    spent: Spent
    failures: int = 0
    progress_at: float = 0.0
    """Not written any more: the idle clock was a wall time once."""

    pause: Pause | None = None
    idle_s: float = 0.0
    """Seconds without progress [A17]."""

    idle_as_of: float = 0.0
    """What `CheckpointHead.ran_s` was then; the clock has run since unless the persona waits for credits, or
    its last thought was by no model."""

    by_model: bool = True
    signatures: list[bytes] = []
    """Of its newest thoughts by a model, the oldest first [A19]."""

    cost: Credits | None = None
    """Of its last thought that cost anything: what the next one is expected to cost goes by it [A16]."""

    minute: int = 0
    """The minute of its newest spending, and in `minute_spent` what that minute's thoughts have cost."""

    minute_spent: Credits | None = None
    settlement: Settlement | None = None
    """What its newest thought has cost, for accounts that have not heard it."""


class StoredMail(Struct, frozen=True, array_like=True):
    """What a checkpoint keeps of what was sent to a persona."""

    held: list[tuple[int, int, int]]
    """Items in its inbox: their place in the INBOX stream, base priority in hundredths, and attempts."""

    sources: bytes = b""
    """Digests of where its newest items came from, the oldest first, one behind the other."""

    ids: bytes = b""
    """Digests of the ids of its newest items, likewise."""


class CheckpointPage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Counters of some personas of a shard, as of a journal position."""

    sequence: int
    """The last journal sequence of the shard's subject that is folded in."""

    counters: dict[str, tuple[int, datetime | None]]
    """Per persona: thought count, last tick."""

    lives: dict[str, StoredLife] = {}
    """Of those that have done more than declare fallbacks."""

    mail: dict[str, StoredMail] = {}
    """Of those to whom something was sent."""


class CheckpointHead(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A shard's checkpoint: complete once this is stored, after all its pages."""

    sequence: int
    number: int
    halted: int
    pages: int
    last_tick_at: datetime | None = None
    received: int = 0
    """See `ShardRecord.received`."""

    settled: list[int] = []
    """Messages of the INBOX stream that are handled or dropped, and not deleted for certain."""

    accounts: AccountsCheckpoint | None = None
    """Null where there are none, or `accounts_parts` hold them."""

    hours: list[SpentInHour] = []
    rolled_up: dict[str, str] = {}
    """Per swarm, the id of its last roll-up."""

    roll_ups_spent: dict[str, Spent] = {}
    """Per swarm, what all its roll-ups have cost; of those that have cost anything."""

    decisions: list[PostDecision] = []
    """On swarm-wide posts that do not say them for certain."""

    roll_up_costs: dict[str, tuple[int, Credits]] = {}
    """Per swarm, in which minute its last summary by a model was made, and what that has cost."""

    ran_s: float = 0.0
    """Seconds for which the loop has run while the shard had an owner: what idle clocks go by [A17]."""

    folded_in: dict[str, Place] = {}
    """See `ShardRecord.folded_in`."""

    accounts_parts: int = 0
    """How many parts hold the accounts, one behind the other as JSON; 0: `accounts` does."""

    accounts_side: int = 0
    """Which of the two sets of parts that is."""


class Position(Struct, frozen=True, kw_only=True):
    """How far the public streams hold the journal; the publisher says it several times a second."""

    sequence: int
    """Every event, snapshot and proposal of journal records up to this sequence is stored."""


class Halted(Struct, frozen=True, kw_only=True):
    """A shard owner's word that these shards are halted for a run."""

    run: int
    shards: list[int]
