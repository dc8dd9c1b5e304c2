"""One shard's part of the INBOX stream: what is sent to its personas comes into their inboxes [A1–A4]."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from time import time

import msgspec
import structlog

from libs.bus.connection import Bus
from libs.bus.errors import UNREADABLE, BusError
from libs.bus.patience import until_answered
from libs.bus.queue import bury
from libs.bus.read import next_of
from libs.contracts import streams, subjects
from libs.contracts.inbox import DropReason, InboxItem
from libs.contracts.journal import ItemArrived, JournalEvent
from libs.roster.state import Roster
from services.scheduler.inbox import Held, Inbox
from services.scheduler.mail import IDS_KEPT, digest
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.notes import Note
from services.scheduler.notices import dropped, received
from services.scheduler.owner import ShardOwner
from services.scheduler.priority import URGENT, base_priority, listener

log = structlog.get_logger("mailbox")

_AT_ONCE = 64
_decode = msgspec.json.Decoder(InboxItem).decode

News = Callable[[str, bool], None]
"""Is told the persona for which something came, and whether it is urgent."""

Sync = Callable[[], Awaitable[object]]
"""Folds into the roster what the registry's journal holds by now."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message of the INBOX stream."""

    subject: str
    sequence: int
    data: bytes
    at: float
    """Wall time in seconds at which the broker stored it."""


class Mailbox:
    """Takes the shard's messages in stream order, each once: those held already, then those that come.

    `wall` is a clock of wall time in seconds.
    """

    def __init__(
        self,
        bus: Bus,
        owner: ShardOwner,
        roster: Roster,
        sync: Sync,
        news: News,
        copied: Callable[[Held], None],
        metrics: SchedulerMetrics,
        wall: Callable[[], float] = time,
    ) -> None:
        self._wall = wall
        self._copied = copied
        self._bus = bus
        self._owner = owner
        self._roster = roster
        self._sync = sync
        self._news = news
        self._metrics = metrics
        self._seen = 0
        self._arrived = float("-inf")
        """When the last item arrived. None arrived before one that the stream has in front of it: two clocks
        are read to tell, and time passes in between."""

        self._waiting: deque[Arrival] = deque()
        self._wake = asyncio.Event()

    def offer(self, message: Arrival) -> None:
        """Put a message behind those that wait, unless it is there already."""
        if message.sequence > self._seen:
            self._seen = message.sequence
            self._waiting.append(message)
            self._wake.set()

    async def load(self) -> None:
        """Read what the stream holds for the shard's personas."""
        subject, at, untold = subjects.inboxes(self._owner.shard), 0, list[Arrival]()
        while (found := await self._next(subject, at)) is not None:
            at = found.sequence
            if not await self._took_back(found):
                untold.append(found)
        # What was offered while we asked was read with the others, unless it is behind them.
        late = [message for message in self._waiting if message.sequence > at]
        self._waiting = deque([*untold, *late])
        self._seen = max(at, self._seen)

    async def _next(self, subject: str, at: int) -> Arrival | None:
        found = await until_answered(
            self._bus, f"reading {subject}", lambda: next_of(self._bus, streams.INBOX, subject, at + 1)
        )
        if found is None:
            return None
        stored_at = datetime.fromisoformat(found.time).timestamp()
        return Arrival(found.subject, found.sequence, found.data, stored_at)

    async def _took_back(self, message: Arrival) -> bool:
        """Put a message that the stream holds into its inbox; false where it is still to be announced."""
        if message.sequence in self._owner.ledger.settled:
            return True
        item = self._read(message)
        told = message.sequence <= self._owner.ledger.received
        if not told or item is None or await self._is_for_nobody(item):
            return False
        self._put(message, item)
        return True

    async def run(self) -> None:
        """Take messages in until cancelled. Raises `Fenced` where the shard is lost."""
        while True:
            self._wake.clear()
            while self._waiting:
                some = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
                await self._receive(some)
            await self._wake.wait()

    async def _receive(self, messages: list[Arrival]) -> None:
        """Announce messages, then put them into their inboxes."""
        note = Note(received=messages[-1].sequence)
        good: dict[tuple[str, str], tuple[Arrival, InboxItem]] = {}
        for message in messages:
            if message.sequence in self._owner.ledger.settled:
                continue
            item = self._read(message)
            if item is None:
                note.dropped.append(message.sequence)
                await self._bury(message)
            elif await self._is_for_nobody(item):
                note.dropped.append(message.sequence)
                note.events.append(self._refused(item))
            elif (item.persona_id, item.id) in good or self._knows(item):
                note.dropped.append(message.sequence)  # its publish was repeated
            else:
                good[item.persona_id, item.id] = message, item
                self._announce(message, item, note)
        await self._owner.note(note)
        self._metrics.inbox_received.inc(len(good))
        for message, item in good.values():
            if self._roster.is_reaped(item.persona_id):  # meanwhile: its inbox was emptied already
                self._owner.say(Note(dropped=[message.sequence], events=[self._refused(item)]))
                continue
            held = self._put(message, item)
            self._news(item.persona_id, held.base > URGENT)

    def _announce(self, message: Arrival, item: InboxItem, note: Note) -> None:
        base = self._base(message, item)
        if item.traceparent is not None:
            note.traces[len(note.events)] = item.traceparent
        note.events.append(received(self._roster.swarm_of(item.persona_id), item, base))
        source, item_id = digest(item.source_id), digest(item.id)
        note.arrived.append(ItemArrived(item.persona_id, message.sequence, base, source, item_id))

    def _knows(self, item: InboxItem) -> bool:
        entry = self._owner.ledger.persona(item.persona_id)
        if entry.mail is not None and entry.mail.knows(item.id):
            return True
        more = entry.inbox if entry.inbox is not None and len(entry.inbox) > IDS_KEPT else ()
        return any(held.item.id == item.id for held in more)

    def _put(self, message: Arrival, item: InboxItem) -> Held:
        entry = self._owner.ledger.persona(item.persona_id)
        if entry.inbox is None:
            entry.inbox = Inbox()
        now = asyncio.get_running_loop().time()
        self._arrived = max(self._arrived, now - max(self._wall() - message.at, 0.0))
        standing = self._owner.ledger.standing(
            item.persona_id, message.sequence, lambda: self._base(message, item)
        )
        held = Held(message.sequence, standing, self._arrived, item)
        held.pause(now)
        loser = entry.inbox.add(held, now)
        if item.post_id is not None and loser is not held:
            self._copied(held)
        if loser is not None:
            self._drop(loser)
        return held

    def _drop(self, loser: Held) -> None:
        """Let an item go that a full inbox has no place for: it stays readable in the event stream [A2]."""
        self._metrics.inbox_dropped.labels(DropReason.FULL).inc()
        event = dropped(
            self._roster.swarm_of(loser.item.persona_id), loser.item, DropReason.FULL, loser.attempts
        )
        self._owner.say(Note(events=[event], dropped=[loser.sequence]))
        if loser.item.post_id is not None:
            self._copied(loser)

    async def _is_for_nobody(self, item: InboxItem) -> bool:
        """Whether a message's persona is reaped, or was never there.

        Whoever sent it knew the persona, but its record may reach this process behind the message: two
        streams, each followed by itself. So who is not known is looked for in the journal.
        """
        if item.persona_id not in self._roster.personas:
            await self._sync()
        return self._roster.is_reaped(item.persona_id)

    def _refused(self, item: InboxItem) -> JournalEvent:
        known = item.persona_id in self._roster.personas
        reason = DropReason.PERSONA_REAPED if known else DropReason.UNKNOWN_PERSONA
        self._metrics.inbox_dropped.labels(reason).inc()
        return dropped(self._roster.swarm_of(item.persona_id), item, reason, 0)

    def _base(self, message: Arrival, item: InboxItem) -> int:
        identity = self._roster.personas[item.persona_id].identity
        mail = self._owner.ledger.persona(item.persona_id).mail
        is_recent = mail is not None and mail.is_recent(item.source_id)
        age = message.at - item.timestamp.timestamp()
        return base_priority(item, listener(identity.name, identity.role, identity.charter), is_recent, age)

    def _read(self, message: Arrival) -> InboxItem | None:
        """Return a message's item; None where it is none, or somebody else's."""
        try:
            item = _decode(message.data)
        except UNREADABLE as error:
            log.warning("no_item", subject=message.subject, sequence=message.sequence, error=str(error))
            return None
        return item if message.subject == subjects.inbox(self._owner.shard, item.persona_id) else None

    async def _bury(self, message: Arrival) -> None:
        try:
            await bury(self._bus, streams.INBOX, message.subject, message.data, "no inbox item", 1)
        except BusError as error:
            log.warning("not_buried", sequence=message.sequence, error=str(error))
