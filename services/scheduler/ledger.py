"""What a shard's journal says: counts, what is halted, who is reaped, recent context. A pure fold."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from libs.cognition.context import Recent, Remembered, context_line, merge, restored
from libs.contracts import subjects
from libs.contracts.journal import ShardRecord, ThoughtEntry
from libs.contracts.place import Place
from libs.contracts.work import ContextLine, Counters
from libs.journal.tail import JournalHole

_decode = msgspec.json.Decoder(ShardRecord).decode


class PersonaLedger:
    """What the journal says of one persona."""

    __slots__ = ("count", "last_tick_at", "recent")

    def __init__(self) -> None:
        self.count = 0
        """Thoughts that are stored."""

        self.last_tick_at: datetime | None = None
        self.recent = Recent()

    def remember(self, place: Place, line: ContextLine) -> None:
        """Add an event to the context, unless it, or a later one, stands there already."""
        self.recent.add(place, line)


class Ledger:
    """The state of a shard. Only records of its journal subject change its counts."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
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

        self._personas: dict[str, PersonaLedger] = {}
        self._changed: set[str] = set()

    def persona(self, persona_id: str) -> PersonaLedger:
        """Return a persona's entry, empty where the journal has said nothing of it."""
        entry = self._personas.get(persona_id)
        if entry is None:
            entry = self._personas[persona_id] = PersonaLedger()
        return entry

    def restore(self, persona_id: str, count: int, last_tick_at: datetime | None) -> None:
        """Take a persona's counters from a checkpoint page."""
        entry = self.persona(persona_id)
        entry.count, entry.last_tick_at = count, last_tick_at

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
            self._count(thought)
            index = self._remember(thought, sequence, index)

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

    def take_changed(self) -> set[str]:
        """Return the personas whose counters changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def put_back_changed(self, changed: set[str]) -> None:
        """Undo `take_changed`: the checkpoint was not stored."""
        self._changed |= changed

    def _count(self, thought: ThoughtEntry) -> None:
        entry = self.persona(thought.persona_id)
        if thought.thought_count <= entry.count:
            return
        if thought.thought_count != entry.count + 1:
            name = f"{subjects.journal(self.shard)}, thoughts of {thought.persona_id}"
            raise JournalHole(name, entry.count + 1, thought.thought_count)
        entry.count = thought.thought_count
        if entry.last_tick_at is None or thought.tick_at > entry.last_tick_at:
            entry.last_tick_at = thought.tick_at
        if self.last_tick_at is None or thought.tick_at > self.last_tick_at:
            self.last_tick_at = thought.tick_at
        self._changed.add(thought.persona_id)

    def _remember(self, thought: ThoughtEntry, sequence: int, index: int) -> int:
        """Add a thought's events to its persona's context; index counts events within the record, from 1."""
        entry = self.persona(thought.persona_id)
        for _, event in thought.events:
            index += 1
            if (sequence, index) > self.public:
                entry.remember((sequence, index), context_line(event))
        return index
