"""The waits of this process's personas for others, told by the public events of those [A15].

Whoever thinks may be another process's, so their thoughts are read off the event stream, as any subscriber
reads them. What is lost with the connection is made up for by the next thought, or the wait times out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import Struct, json
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from libs.bus.connection import Bus
from libs.bus.errors import UNREADABLE
from libs.contracts import subjects
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


class Waits:
    """Which personas may not think yet because others have not.

    `completed` is told of a persona that waits for nobody any more.
    """

    def __init__(
        self, bus: Bus, roster: Roster, completed: Callable[[str], None], tasks: asyncio.TaskGroup
    ) -> None:
        self._bus = bus
        self._roster = roster
        self._completed = completed
        self._tasks = tasks
        self._table = Dependencies(roster.is_reaped)
        self._heard: dict[str, Subscription] = {}
        self._listening = asyncio.Lock()
        self._to_agree = False
        self._clock = asyncio.get_running_loop().time

    def set(self, persona_id: str) -> None:
        """Have a persona wait for those that its record names."""
        record = self._roster.personas.get(persona_id)
        wanted = record.waiting_for if record is not None else ()
        if wanted or persona_id in self._table:
            self._table.set(persona_id, wanted, self._clock())
            self._listen()

    def forget(self, persona_id: str) -> None:
        """Have a persona wait for nobody."""
        if persona_id in self._table:
            self._table.forget(persona_id)
            self._listen()

    def began(self, persona_id: str) -> None:
        """Note that a persona begins a thought."""
        self._table.began(persona_id, self._clock())

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
            for name in self._heard.keys() - wanted:
                await self._heard.pop(name).unsubscribe()

    async def _receive(self, message: Msg) -> None:
        try:
            event = _decode(message.data)
        except UNREADABLE:
            return
        if event.persona_id is None or event.payload.thought_count is None:
            return
        for name in self._table.thought(event.persona_id, event.payload.thought_count):
            if self._table.complete(name):
                self._completed(name)
