"""What stands for the broker: a journal in memory, posts in memory, a registry that reaps at once.

Everything that decides is the scheduler's own class; these only replace what it would ask the broker for.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from msgspec import structs

from bench.simulation.clock import wall
from libs.bus.connection import Bus
from libs.bus.telemetry import NoTelemetry
from libs.concurrency.tasks import Background
from libs.contracts.inbox import InboxItem, Post
from libs.contracts.journal import Change, Reaped, Reaping, RegistryRecord, ShardRecord, ThoughtEntry
from libs.contracts.personas import ReapPersonaResponse
from libs.contracts.registry import ReapCommand
from libs.contracts.work import Settled
from libs.journal.position import PublicPosition
from services.scheduler.dispatches import Age, Dispatch
from services.scheduler.dispatching import Dispatching
from services.scheduler.inboxes import Inboxes
from services.scheduler.ledger import Ledger
from services.scheduler.mailbox import Arrival, Mailbox
from services.scheduler.notes import Note, in_record, resolve
from services.scheduler.owner import ShardOwner
from services.scheduler.posts import Posts

_encode = msgspec.json.Encoder().encode

Journal = Callable[[ShardRecord], None]
"""Is told every record of every shard."""


class MemoryOwner(ShardOwner):
    """A shard's owner whose journal stores at once, and whose claim nobody disputes.

    What it admits and how it folds is the owner's; that it survives kills is for storms to show.
    """

    def __init__(
        self,
        bus: Bus,
        shard: int,
        is_reaped: Callable[[str], bool],
        on_stored: Callable[[list[ThoughtEntry], list[Age]], None],
        clock: Callable[[], float],
        journal: Journal,
    ) -> None:
        super().__init__(bus, shard, "simulation", PublicPosition(), is_reaped, on_stored)
        self.ledger = Ledger(shard, clock, clock)
        self._owned = True
        self._journal = journal
        self._stored = 0

    def commit(self, thoughts: list[ThoughtEntry]) -> Settled:
        """Store those thoughts that may be stored now."""
        admitted = [thought for thought in thoughts if self._admits(thought)]
        if admitted:
            self._put(ShardRecord(number=self.ledger.number + 1, owner=self._boot, thoughts=admitted))
        return Settled(stored=len(admitted), stale=len(thoughts) - len(admitted))

    async def note(self, note: Note) -> None:
        self.say(note)

    def say(self, note: Note) -> None:
        self._put(structs.replace(in_record([note]), number=self.ledger.number + 1, owner=self._boot))
        resolve([note])

    def _put(self, record: ShardRecord) -> None:
        self._stored += 1
        self._own = (b"", record)
        self._fold(self._stored, b"")
        self.ledger.settled.clear()  # the stream has forgotten them
        self._journal(record)


class MemoryPosts(Posts):
    """Swarm-wide posts in a dictionary; a change is known to everybody at once."""

    def __init__(self, bus: Bus, changed: Callable[[Post | None, Post], None]) -> None:
        super().__init__(bus, NoTelemetry(), changed)
        self._bucket: dict[str, Post] = {}
        self._revision = 0

    def put(self, post: Post) -> None:
        """Keep a new post."""
        self._bucket[post.id] = post

    async def change(self, post_id: str, change: Callable[[Post], Post]) -> Post | None:
        changed = self._bucket[post_id] = change(self._bucket[post_id])
        self._revision += 1
        self._note(changed, self._revision)
        return changed


class SeenMailbox(Mailbox):
    """Tells which priority each message has on its arrival."""

    came: Callable[[int, int, float], None]
    """Is told a message's sequence, its base priority in hundredths, and its wall time in seconds."""

    def _announce(self, message: Arrival, item: InboxItem, note: Note) -> None:
        super()._announce(message, item, note)
        self.came(message.sequence, note.arrived[-1].base, message.at)


class MemoryInboxes(Inboxes):
    """Mailboxes without a stream behind them: messages are offered."""

    def open(self, owner: ShardOwner, tasks: Background, came: Callable[[int, int, float], None]) -> None:
        """Take in a shard's messages from now on."""
        mailbox = SeenMailbox(
            self._bus,
            owner,
            self._roster,
            self._sync,
            self._news,
            self._offers.copied,
            self._metrics,
            wall,
        )
        mailbox.came = came
        self._open[str(owner.shard)] = mailbox
        self._offers.enter(owner)
        self._offers.loaded(owner)
        tasks.create_task(mailbox.run(), name=f"mailbox-{owner.shard}")

    def offer(self, shard: int, message: Arrival) -> None:
        """Store a message of the shard."""
        self._open[str(shard)].offer(message)


class ToThinkers(Dispatching):
    """Dispatches into the simulated thinkers' queue."""

    queue: Callable[[ShardOwner, Dispatch], None]

    async def publish(self, owner: ShardOwner, dispatch: Dispatch) -> None:
        if dispatch.waiting:
            self.queue(owner, dispatch)


class Registry:
    """Stands where the scheduler expects the bus: it reaps whom it is asked to, and hears of nothing else."""

    def __init__(self) -> None:
        self.number = 0
        self.tracer = None
        self.reaped: list[str] = []
        self.fold: Callable[[int, bytes], None]
        """Folds a record of the registry, by its sequence."""

    @property
    def as_bus(self) -> Bus:
        """Return it as the scheduler's type has it."""
        return cast("Bus", self)

    def record(self, *changes: Change) -> None:
        """Have these changes happen."""
        self.number += 1
        self.fold(self.number, _encode(RegistryRecord(number=self.number, owner="", changes=list(changes))))

    async def ask(self, subject: str, message: ReapCommand, *_: object, **__: object) -> ReapPersonaResponse:
        persona_id, at = message.persona_id, datetime.fromtimestamp(wall(), UTC)
        self.reaped.append(persona_id)
        self.record(Reaping([persona_id], message.request.reason or "", False, at))
        self.record(Reaped([persona_id]))
        return ReapPersonaResponse(reaped_ids=[persona_id], count=1)

    async def note(self, subject: str, message: msgspec.Struct) -> None:
        """There is no other scheduler to be told anything."""

    async def subscribe(self, subject: str, receive: Any) -> None:
        """Events come to the memory without a subscription."""
