"""What a shard's journal says: counts, what is halted, who is reaped, recent context. A pure fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from time import monotonic

import msgspec

from libs.cognition.context import OF_REFERENCE, Recent, Remembered, context_line, merge, restored
from libs.contracts import subjects
from libs.contracts.inbox import Outcome, PostDecision
from libs.contracts.journal import (
    CheckpointHead,
    Effort,
    ItemSettled,
    ShardRecord,
    StoredLife,
    StoredMail,
    ThoughtEntry,
)
from libs.contracts.place import Place
from libs.contracts.work import ContextLine, Counters
from libs.journal.tail import JournalHole
from services.scheduler.accounts import Accounts
from services.scheduler.inbox import Inbox
from services.scheduler.life import Life
from services.scheduler.mail import Mail, Standing
from services.scheduler.places import decision_of
from services.scheduler.roll_ups import RollUps
from services.scheduler.spending import Spending

_decode = msgspec.json.Decoder(ShardRecord).decode


class PersonaLedger:
    """What the journal says of one persona."""

    __slots__ = ("as_of", "count", "inbox", "last_tick_at", "life", "mail", "recent")

    def __init__(self) -> None:
        self.count = 0
        """Thoughts that are stored."""

        self.last_tick_at: datetime | None = None
        self.recent = Recent()
        self.life: Life | None = None
        """None while it has done nothing but declare fallbacks."""

        self.mail: Mail | None = None
        """None while nothing was ever sent to it."""

        self.inbox: Inbox | None = None
        """What the INBOX stream holds of it; None before that is read."""

        self.as_of = 0
        """Journal sequence up to which a checkpoint has it."""

    def mails(self) -> Mail:
        """Return what came for it, which begins now where nothing had."""
        if self.mail is None:
            self.mail = Mail()
        return self.mail

    def remember(self, place: Place, line: ContextLine) -> None:
        """Add an event to the context, unless it, or a later one, stands there already."""
        self.recent.add(place, line)


class Ledger:
    """The state of a shard. Only records of its journal subject change its counts.

    `clock` is a monotonic one, in seconds; `running` is `RunningTime.seconds`.
    """

    def __init__(
        self,
        shard: int,
        clock: Callable[[], float] = monotonic,
        running: Callable[[], float] = lambda: 0.0,
    ) -> None:
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

        self.clocks_run = False
        """Some idle clock has run that may end somebody."""

        self._clock = clock
        self._running = running
        self._ran, self._ran_from = 0.0, running()
        self._idle_clock = self.ran
        self._whose: dict[int, str] = {}
        """Items in inboxes, by their place in the INBOX stream: whose they are."""

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

    def ran(self) -> float:
        """Return for how many seconds the loop has run while the shard had an owner."""
        return self._ran + self._running() - self._ran_from

    def life(self, persona_id: str) -> Life:
        """Return a persona's life, which begins now where there was none."""
        entry = self.persona(persona_id)
        if entry.life is None:
            entry.life = Life(self._idle_clock)
        return entry.life

    def restore(
        self,
        persona_id: str,
        count: int,
        last_tick_at: datetime | None,
        life: StoredLife | None = None,
        mail: StoredMail | None = None,
        as_of: int = 0,
    ) -> None:
        """Take a persona from a checkpoint page, instead of what an earlier page had of it."""
        entry = self.persona(persona_id)
        self._forget_mail(entry)
        entry.count, entry.last_tick_at, entry.as_of = count, last_tick_at, as_of
        entry.life = Life.load(life, self._idle_clock) if life is not None else None
        entry.mail = Mail.load(mail) if mail is not None else None
        self._whose.update((sequence, persona_id) for sequence, *_ in (mail.held if mail is not None else ()))

    def restore_head(self, head: CheckpointHead) -> None:
        """Take what a checkpoint holds of the shard as a whole."""
        self.number, self.halted, self.last_tick_at = head.number, head.halted, head.last_tick_at
        self.received, self.settled = head.received, set(head.settled)
        self._ran, self._ran_from = head.ran_s, self._running()
        self.spending.restore(head.hours)
        self.roll_ups.restore(head.rolled_up, head.roll_ups_spent, head.folded_in, head.roll_up_costs)
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
        self._reap(sequence, record.reap)
        index = 0
        for thought in record.thoughts:
            fresh = self._count(thought)
            index = self._remember(thought, sequence, index)
            if thought.effort is not None:
                self._live(thought, thought.effort, fresh)
                if sequence > self._restored:
                    self.spending.add(thought)
                    self._decide(thought, thought.effort)
            elif fresh and (life := self.persona(thought.persona_id).life) is not None:
                life.fell_back(thought.thought_count)
        self._note(sequence, record)

    def _reap(self, sequence: int, persona_ids: list[str]) -> None:
        """Note who is reaped: nothing comes for them any more, and nothing that they think is compared."""
        self.reaped.update(persona_ids)
        for persona_id in persona_ids:
            entry = self._personas.get(persona_id)
            if entry is not None and sequence > entry.as_of:
                self._forget_mail(entry)
                if entry.life is not None:
                    entry.life.recent = ()
                self._changed.add(persona_id)

    def _forget_mail(self, entry: PersonaLedger) -> None:
        for sequence in entry.mail.held if entry.mail is not None else ():
            self._whose.pop(sequence, None)
        entry.mail = None

    def _note(self, sequence: int, record: ShardRecord) -> None:
        self.received = max(self.received, record.received)
        for item in record.arrived:
            entry = self.persona(item.persona_id)
            if sequence > entry.as_of:
                entry.mails().arrived(item)
                self.life(item.persona_id)
                self._whose[item.sequence] = item.persona_id
                self._changed.add(item.persona_id)
        for dropped in record.dropped:
            self._settle(dropped)
        for pause in record.pauses:
            self.life(pause.persona_id).pause = pause
        for persona_id in record.resumed:
            if (life := self.persona(persona_id).life) is not None:
                life.pause = None
        self._changed.update(pause.persona_id for pause in record.pauses)
        self._changed.update(record.resumed)
        for change in record.credits:
            self.accounts.apply(change)
        for swarm_id, roll_up_id in record.rolled_up:
            self.roll_ups.add(swarm_id, roll_up_id, record.folded_in.get(swarm_id))
        fresh = sequence > self._restored
        for cost in record.roll_up_costs:
            self.roll_ups.spend(cost, fresh=fresh)
            if fresh:
                self.spending.add_roll_up(cost)

    def _live(self, thought: ThoughtEntry, effort: Effort, fresh: bool) -> None:
        """Fold what a thought has cost, and what became of the items it took up."""
        entry = self.persona(thought.persona_id)
        at = thought.tick_at.timestamp() + effort.cpu_ms / 1000
        if fresh:
            self.life(thought.persona_id).thought(thought.thought_count, at, effort)
        for item in effort.items:
            if item.outcome in (Outcome.HANDLED, Outcome.ASIDE):
                self._settle(item.sequence)
            elif fresh:
                self._keep(entry, item)

    def _keep(self, entry: PersonaLedger, item: ItemSettled) -> None:
        """Have an item taken up again, later; where a thought of it came to nothing, that is counted."""
        standing = entry.mail.held.get(item.sequence) if entry.mail is not None else None
        if item.outcome is Outcome.FAILED and standing is not None:
            standing.attempts += 1
        if entry.inbox is None:
            return
        if item.outcome is Outcome.FAILED:
            entry.inbox.failed(item.sequence, self._clock())
        else:
            entry.inbox.returned(item.sequence, self._clock())

    def _settle(self, sequence: int) -> None:
        """Note that a message may be deleted: no inbox has it any more."""
        self.settled.add(sequence)
        persona_id = self._whose.pop(sequence, None)
        if persona_id is None:
            return
        entry = self.persona(persona_id)
        self._changed.add(persona_id)
        if entry.mail is not None:
            entry.mail.held.pop(sequence, None)
        if entry.inbox is not None:
            entry.inbox.remove(sequence)

    def standing(self, persona_id: str, sequence: int, base: Callable[[], int]) -> Standing:
        """Return how an item stands that the stream holds.

        Of one that came when the journal did not say so, `base` works the priority out anew.
        """
        held = self.persona(persona_id).mails().held
        if sequence not in held:
            held[sequence] = Standing(base())
            self._whose[sequence] = persona_id
            self.life(persona_id)
        return held[sequence]

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

    def is_bare(self, persona_id: str) -> bool:
        """Whether a persona has nothing but its counters."""
        entry = self._personas.get(persona_id)
        return entry is None or (entry.life is None and entry.mail is None)

    def stored_lives(self, persona_ids: Iterable[str]) -> dict[str, StoredLife]:
        """Return the lives of those that have one, for a checkpoint."""
        found = ((name, self._personas.get(name)) for name in persona_ids)
        return {name: e.life.dump() for name, e in found if e is not None and e.life is not None}

    def stored_mail(self, persona_ids: Iterable[str]) -> dict[str, StoredMail]:
        """Return what came for those to whom something was sent, for a checkpoint."""
        found = ((name, self._personas.get(name)) for name in persona_ids)
        return {name: e.mail.dump() for name, e in found if e is not None and e.mail is not None}

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
