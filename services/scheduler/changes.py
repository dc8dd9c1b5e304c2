"""What the registry's records mean for ticking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from libs.cognition.context import SHARED_TYPES, context_line
from libs.contracts.inbox import DropReason
from libs.contracts.journal import (
    DependenciesSet,
    IntervalSet,
    JournalEvent,
    Reaping,
    Spawned,
    Started,
    Stopped,
    Stopping,
)
from libs.roster.state import Roster
from services.scheduler.memory import Memory
from services.scheduler.notes import Note
from services.scheduler.notices import dropped
from services.scheduler.offers import Offers
from services.scheduler.owner import ShardOwner
from services.scheduler.shards import Shards
from services.scheduler.ticking import Ticking


class Changes:
    """Folds the registry's records into the roster and carries them on to the ticker and the owners."""

    def __init__(
        self,
        roster: Roster,
        shards: Shards,
        ticker: Ticking,
        memory: Memory,
        offers: Offers,
        halt: Callable[[ShardOwner, int], Coroutine[Any, Any, None]],
        tasks: asyncio.TaskGroup,
        turn: Callable[[], None] = lambda: None,
    ) -> None:
        """`turn` is told that the loop is started or stopped, see `RunningTime`."""
        self._roster = roster
        self._shards = shards
        self._ticker = ticker
        self._memory = memory
        self._offers = offers
        self._halt = halt
        self._tasks = tasks
        self._turn = turn

    def fold(self, sequence: int, data: bytes) -> None:
        """Apply a record. Events come first: a persona is ticked once its spawn is in its context [3.5]."""
        record = self._roster.fold(sequence, data)
        for index, event in enumerate(record.events, start=1):
            self._remember((sequence, index), event)
        for change in record.changes:
            match change:
                case Spawned(persona):
                    self._ticker.spawned(persona.identity.id)
                    if persona.identity.swarm_id is not None:
                        self._tasks.create_task(self._memory.spawned(persona), name="memory")
                case DependenciesSet(persona_id):
                    self._ticker.waits_changed(persona_id)
                case Reaping(persona_ids):
                    self._reaped(persona_ids)
                case Stopping(run):
                    self._loop_changed()
                    for owner in list(self._shards.live.values()):
                        self.halt_if_stopping(owner, run)
                case Started() | IntervalSet() | Stopped():
                    self._loop_changed()

    def _loop_changed(self) -> None:
        self._turn()
        self._ticker.loop_changed()

    def halt_if_stopping(self, owner: ShardOwner, run: int) -> None:
        """Begin to end a run on a shard, unless it is over there."""
        if not owner.is_halted(run):
            self._tasks.create_task(self._halt(owner, run), name=f"halt-{owner.shard}")

    def _reaped(self, persona_ids: list[str]) -> None:
        self._ticker.reaped(persona_ids)
        for persona_id in persona_ids:
            self._memory.reaped(persona_id)
            owner = self._shards.owner_of(persona_id)
            if owner is not None:
                owner.dispatches.forget([persona_id])
                self._empty_inbox(owner, persona_id)

    def _empty_inbox(self, owner: ShardOwner, persona_id: str) -> None:
        """Let go of what a reaped persona has not handled; it stays readable in the event stream."""
        entry, swarm_id = owner.ledger.persona(persona_id), self._roster.swarm_of(persona_id)
        gone = list(entry.inbox or ())
        entry.inbox = None
        for held in gone:
            event = dropped(swarm_id, held.item, DropReason.PERSONA_REAPED, held.attempts)
            owner.say(Note(events=[event], dropped=[held.sequence]))
            if held.item.post_id is not None:
                self._offers.copied(held)

    def _remember(self, place: tuple[int, int], event: JournalEvent) -> None:
        if event.persona_id is None:
            if event.event_type in SHARED_TYPES:
                self._shards.remember(place, context_line(event.event))
            return
        owner = self._shards.owner_of(event.persona_id)
        if owner is not None:
            owner.ledger.persona(event.persona_id).remember(place, context_line(event.event))
