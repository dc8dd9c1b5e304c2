"""What a shard's journal says: counts, what is halted, who is reaped, recent context. A pure fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from time import monotonic

import msgspec

from libs.cognition.context import OF_REFERENCE, Recent, Remembered, context_line, merge, restored
from libs.contracts import subjects
from libs.contracts.inbox import Outcome, PostDecision
from libs.contracts.journal import CheckpointHead, Effort, ShardRecord, StoredLife, ThoughtEntry
from libs.contracts.place import Place
from libs.contracts.work import ContextLine, Counters
from libs.journal.tail import JournalHole
from services.scheduler.accounts import Accounts
from services.scheduler.inbox import Inbox
from services.scheduler.life import Life
from services.scheduler.places import decision_of
from services.scheduler.roll_ups import RollUps
from services.scheduler.spending import Spending

_decode = msgspec.json.Decoder(ShardRecord).decode


class PersonaLedger:
    """What the journal says of one persona."""

    __slots__ = ("count", "inbox", "last_tick_at", "life", "recent")

    def __init__(self) -> None:
        self.count = 0
        """Thoughts that are stored."""

        self.last_tick_at: datetime | None = None
        self.recent = Recent()
        self.life: Life | None = None
        """None while it has done nothing but declare fallbacks."""

        self.inbox: Inbox | None = None
        """None while nothing was ever sent to it. What it holds comes from the INBOX stream."""

    def lives(self, at: float) -> Life:
        """Return its life, which begins now where there was none."""
        if self.life is None:
            self.life = Life(at)
        return self.life

    def remember(self, place: Place, line: ContextLine) -> None:
        """Add an event to the context, unless it, or a later one, stands there already."""
        self.recent.add(place, line)


class Ledger:
    """The state of a shard. Only records of its journal subject change its counts.

    `clock` is a monotonic one, in seconds.
    """

    def __init__(self, shard: int, clock: Callable[[], float] = monotonic) -> None:
        self.shard = shard
        self.accounts = Accounts()
        self.spending = Spending()
        self.roll_ups = RollUps()
        self.received = 0
        """Messages of the shard in the INBOX stream up to this one are in inboxes, handled or dropped."""

        self.settled: set[int] = set()
        """Messages of the INBOX stream that are handled or dropped, and not deleted for certain."""

        self.decisions: dict[tuple[str, str], PostDecision] = {}
        """By post and persona, what was decided on swarm-wide posts that do not say it for certain [A5]."""
        self.number = 0
        """Number of the last record of an owner."""

        self.halted = 0
        """Thoughts of this run and earlier ones are refused."""

        self.claimed_by = ""
        """Boot id of the owner that took over last."""

        self.last_tick_at: datetime | None = None
        self.reaped: set[str] = set()
        self.public: Place = (0, 0)
        """Where the event stream ended when this shard was loaded: events up to here came from the stream."""

        self._clock = clock
        self._restored = 0
        self._personas: dict[str, PersonaLedger] = {}
        self._changed: set[str] = set()

    def persona(self, persona_id: str) -> PersonaLedger:
        """Return a persona's entry, empty where the journal has said nothing of it."""
        entry = self._personas.get(persona_id)
        if entry is None:
            entry = self._personas[persona_id] = PersonaLedger()
        return entry

    def known(self, persona_id: str) -> PersonaLedger | None:
        """Return a persona's entry, None where the journal has said nothing of it. Any thread may ask."""
        return self._personas.get(persona_id)

    def restore(
        self, persona_id: str, count: int, last_tick_at: datetime | None, life: StoredLife | None = None
    ) -> None:
        """Take a persona's counters and its life from a checkpoint page."""
        entry = self.persona(persona_id)
        entry.count, entry.last_tick_at = count, last_tick_at
        entry.life = Life.load(life) if life is not None else None

    def restore_head(self, head: CheckpointHead) -> None:
        """Take what a checkpoint holds of the shard as a whole."""
        self.number, self.halted, self.last_tick_at = head.number, head.halted, head.last_tick_at
        self.received, self.settled = head.received, set(head.settled)
        self.spending.restore(head.hours)
        self.roll_ups.restore(head.rolled_up, head.roll_ups_spent)
        self.decisions = {(one.post_id, one.persona_id): one for one in head.decisions}
        self._restored = head.sequence
        if head.accounts is not None:
            self.accounts.restore(head.accounts)

    def install(self, events: dict[str, Recent], public: Place) -> None:
        """Take what the event stream still holds as context, beside what came meanwhile."""
        self.public = public
        for persona_id, found in events.items():
            entry = self.persona(persona_id)
            entry.recent = restored(found, entry.recent, public)

    def fold(self, sequence: int, data: bytes) -> ShardRecord:
        """Apply a record as it stands in the journal and return it; see `apply`."""
        record = _decode(data)
        self.apply(sequence, record)
        return record

    def apply(self, sequence: int, record: ShardRecord) -> None:
        """Apply a record. Thoughts that a checkpoint held already are skipped. Raises `JournalHole`."""
        if record.number is not None:
            if self.number and record.number > self.number + 1:
                raise JournalHole(subjects.journal(self.shard), self.number + 1, record.number)
            self.number = max(self.number, record.number)
        if record.claim:
            self.claimed_by = record.owner
        if record.halt is not None:
            self.halted = max(self.halted, record.halt)
        self.reaped.update(record.reap)
        index = 0
        for thought in record.thoughts:
            fresh = self._count(thought)
            index = self._remember(thought, sequence, index)
            if thought.effort is not None:
                self._live(thought, thought.effort, fresh)
                if sequence > self._restored:
                    self.spending.add(thought)
                    self._decide(thought, thought.effort)
        self._note(record, fresh=sequence > self._restored)

    def _note(self, record: ShardRecord, *, fresh: bool) -> None:
        self.received = max(self.received, record.received)
        self.settled.update(record.dropped)
        for pause in record.pauses:
            self.persona(pause.persona_id).lives(pause.since.timestamp()).pause = pause
        for persona_id in record.resumed:
            if (life := self.persona(persona_id).life) is not None:
                life.pause = None
        self._changed.update(pause.persona_id for pause in record.pauses)
        self._changed.update(record.resumed)
        for change in record.credits:
            self.accounts.apply(change)
        for swarm_id, roll_up_id in record.rolled_up:
            self.roll_ups.add(swarm_id, roll_up_id)
        for cost in record.roll_up_costs:
            self.roll_ups.spend(cost, fresh=fresh)
            if fresh:
                self.spending.add_roll_up(cost)

    def _live(self, thought: ThoughtEntry, effort: Effort, fresh: bool) -> None:
        """Fold what a thought has cost, and what became of the items it took up."""
        entry = self.persona(thought.persona_id)
        at = thought.tick_at.timestamp() + effort.cpu_ms / 1000
        if fresh:
            entry.lives(at).thought(thought.thought_count, at, effort)
        for item in effort.items:
            if item.outcome in (Outcome.HANDLED, Outcome.ASIDE):
                self.settled.add(item.sequence)
                if entry.inbox is not None:
                    entry.inbox.remove(item.sequence)
            elif item.outcome is Outcome.FAILED and fresh and entry.inbox is not None:
                entry.inbox.fail(item.sequence, self._clock())
            elif item.outcome is Outcome.RETURNED and fresh and entry.inbox is not None:
                entry.inbox.returned(item.sequence, self._clock())

    def _decide(self, thought: ThoughtEntry, effort: Effort) -> None:
        for item in effort.items:
            if (decision := decision_of(thought, item)) is not None:
                self.decisions[decision.post_id, decision.persona_id] = decision

    def admits(self, thought: ThoughtEntry) -> bool:
        """Whether a thought may be appended now: the next of a living persona, in a run that is not over."""
        return (
            thought.thought_count == self.persona(thought.persona_id).count + 1
            and thought.run > self.halted
            and thought.persona_id not in self.reaped
        )

    def context(self, persona_id: str, shared: Recent) -> list[Remembered]:
        """Return a persona's newest events, in stream order [3.5]."""
        return merge(self.persona(persona_id).recent, shared)

    def counters(self, persona_ids: Iterable[str]) -> list[Counters]:
        """Return counters in the order asked for; zeros for personas that have not thought yet."""
        entries = (self._personas.get(persona_id) for persona_id in persona_ids)
        return [Counters(e.count, e.last_tick_at) if e is not None else Counters(0, None) for e in entries]

    def stored_lives(self, persona_ids: Iterable[str]) -> dict[str, StoredLife]:
        """Return the lives of those that have one, for a checkpoint."""
        found = ((name, self._personas.get(name)) for name in persona_ids)
        return {name: e.life.dump() for name, e in found if e is not None and e.life is not None}

    def entries(self) -> Iterable[tuple[str, PersonaLedger]]:
        """Return every persona of which the journal has said something."""
        return self._personas.items()

    def take_changed(self) -> set[str]:
        """Return the personas whose counters changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def put_back_changed(self, changed: set[str]) -> None:
        """Undo `take_changed`: the checkpoint was not stored."""
        self._changed |= changed

    def _count(self, thought: ThoughtEntry) -> bool:
        """Count a thought; false where a checkpoint had it already."""
        entry = self.persona(thought.persona_id)
        if thought.thought_count <= entry.count:
            return False
        if thought.thought_count != entry.count + 1:
            name = f"{subjects.journal(self.shard)}, thoughts of {thought.persona_id}"
            raise JournalHole(name, entry.count + 1, thought.thought_count)
        entry.count = thought.thought_count
        if entry.last_tick_at is None or thought.tick_at > entry.last_tick_at:
            entry.last_tick_at = thought.tick_at
        if self.last_tick_at is None or thought.tick_at > self.last_tick_at:
            self.last_tick_at = thought.tick_at
        self._changed.add(thought.persona_id)
        return True

    def _remember(self, thought: ThoughtEntry, sequence: int, index: int) -> int:
        """Add a thought's events to its persona's context; index counts events within the record, from 1."""
        entry = self.persona(thought.persona_id)
        for event_type, event in thought.events:
            index += 1
            if (sequence, index) > self.public and event_type in OF_REFERENCE:
                entry.remember((sequence, index), context_line(event))
        return index
