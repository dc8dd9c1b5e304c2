"""The waits of this process's personas for others, told by the public events of those [A15].

Whoever thinks may be another process's, so their thoughts are read off the event stream, as any subscriber
reads them. What came before we listened, or while the connection was lost, is read where it is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from time import time

from msgspec import Struct, json
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from libs.bus.connection import Bus
from libs.bus.errors import UNREADABLE
from libs.bus.patience import until_answered
from libs.bus.read import Stored, last_of
from libs.cognition.phases import event_of
from libs.contracts import streams, subjects
from libs.contracts.thoughts import Phase
from libs.roster.state import Roster
from services.scheduler.dependencies import Dependencies
from services.scheduler.notes import Note
from services.scheduler.notices import timed_out
from services.scheduler.owner import ShardOwner


class _Payload(Struct):
    thought_count: int | None = None


class _Event(Struct):
    persona_id: str | None
    payload: _Payload


_decode = json.Decoder(_Event).decode

_THOUGHTS = tuple(event_of(phase) for phase in Phase)
"""Types of the events of which each thought has one."""


class Waits:
    """Which personas may not think yet because others have not.

    `completed` is told of a persona that waits for nobody any more. `wall` is a wall clock in seconds.
    """

    def __init__(
        self,
        bus: Bus,
        roster: Roster,
        completed: Callable[[str], None],
        tasks: asyncio.TaskGroup,
        wall: Callable[[], float] = time,
    ) -> None:
        self._bus = bus
        self._roster = roster
        self._completed = completed
        self._tasks = tasks
        self._wall = wall
        self._table = Dependencies(roster.is_reaped)
        self._heard: dict[str, Subscription] = {}
        self._listening = asyncio.Lock()
        self._to_agree = False
        self._clock = asyncio.get_running_loop().time

    def set(self, persona_id: str) -> None:
        """Have a persona wait from now on for those that its record names."""
        self._set(persona_id, self._wall())

    def resume(self, owner: ShardOwner, persona_id: str) -> None:
        """Have a persona of a shard taken over wait on, for what was thought since its last thought."""
        began = owner.ledger.persona(persona_id).last_tick_at
        self._set(persona_id, began.timestamp() if began is not None else 0.0)

    def reconnected(self) -> None:
        """Read what was thought while nothing was heard."""
        if self._heard:
            self._tasks.create_task(self._recall_all(), name="waits")

    def forget(self, persona_id: str) -> None:
        """Have a persona wait for nobody."""
        if persona_id in self._table:
            self._table.forget(persona_id)
            self._listen()

    def began(self, persona_id: str) -> None:
        """Note that a persona begins a thought."""
        self._table.began(persona_id, self._clock(), self._wall())

    def unfinished(self, persona_id: str) -> list[str]:
        """Return whom a persona still waits for, sorted."""
        return self._table.unfinished(persona_id)

    def complete(self, persona_id: str) -> bool:
        """Whether those whom a persona waited for have thought."""
        return self._table.complete(persona_id)

    def look(self, owner: ShardOwner, persona_id: str, interval_s: float) -> None:
        """Give up, and say so, whom a persona has waited for in vain."""
        for name, reaped in self._table.give_up(persona_id, self._clock(), interval_s):
            swarm_id = self._roster.swarm_of(persona_id)
            owner.say(Note(events=[timed_out(swarm_id, persona_id, name, reaped=reaped)]))

    def _set(self, persona_id: str, after: float) -> None:
        record = self._roster.personas.get(persona_id)
        wanted = record.waiting_for if record is not None else ()
        if wanted or persona_id in self._table:
            self._table.set(persona_id, wanted, self._clock(), after)
            self._listen()

    def _listen(self) -> None:
        """Have it soon agree who is listened to: once for all that changes in one go."""
        if not self._to_agree:
            self._to_agree = True
            self._tasks.create_task(self._agree(), name="waits")

    async def _agree(self) -> None:
        """Listen to those who are waited for, and to nobody else."""
        async with self._listening:
            self._to_agree = False
            wanted = set(self._table.waited_for)
            for name in wanted - self._heard.keys():
                self._heard[name] = await self._bus.subscribe(subjects.events_of_persona(name), self._receive)
                await self._recall(name)
            for name in self._heard.keys() - wanted:
                await self._heard.pop(name).unsubscribe()

    async def _recall_all(self) -> None:
        async with self._listening:
            for name in list(self._heard):
                await self._recall(name)

    async def _recall(self, persona_id: str) -> None:
        """Note a persona's last thought, as the event stream holds it."""
        swarm_id = self._roster.swarm_of(persona_id)
        for kind in _THOUGHTS:
            stored = await self._last(subjects.event(swarm_id, persona_id, kind))
            if stored is not None and (thought := _thought(stored.data)) is not None:
                at = datetime.fromisoformat(stored.time).timestamp()
                self._tell(self._table.recalled(*thought, at))

    async def _last(self, subject: str) -> Stored | None:
        return await until_answered(
            self._bus, f"reading {subject}", lambda: last_of(self._bus, streams.EVENTS, subject)
        )

    async def _receive(self, message: Msg) -> None:
        if (thought := _thought(message.data)) is not None:
            self._tell(self._table.thought(*thought, self._wall()))

    def _tell(self, persona_ids: list[str]) -> None:
        for persona_id in persona_ids:
            if self._table.complete(persona_id):
                self._completed(persona_id)


def _thought(data: bytes) -> tuple[str, int] | None:
    """Return whose and which thought an event is of."""
    try:
        event = _decode(data)
    except UNREADABLE:
        return None
    if event.persona_id is None or event.payload.thought_count is None:
        return None
    return event.persona_id, event.payload.thought_count
