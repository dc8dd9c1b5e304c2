"""What a swarm remembers: snapshots of personas that share theirs, and roll-ups of them [A18].

They are read off the public events, as any subscriber reads them, swarm by swarm, and only where somebody
shares. What is lost with the connection is made up for by the next snapshot.

A snapshot wakes the swarm; one that only echoes what others share does not, nor does a roll-up: two who share
would wake each other for ever else (docs/decisions/0022-echoes.md).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec
import structlog
from msgspec import Struct
from nats.aio.msg import Msg

from libs.bus.connection import Bus
from libs.bus.errors import UNREADABLE
from libs.cognition.text import trim
from libs.contracts import subjects
from libs.contracts.personas import PersonaStatus
from libs.contracts.registry import PersonaRecord
from libs.contracts.thoughts import EventType
from libs.contracts.work import ContextLine
from libs.roster.state import Roster

log = structlog.get_logger("memory")

KEPT = 8
"""Snapshots that a swarm's memory holds."""

EXCERPT_CHARS = 400


class _Named(Struct):
    name: str = ""


class _Payload(Struct):
    thinking: str = ""
    persona: _Named | None = None
    repeats: bool = False
    echo: bool = False

    @property
    def wakes(self) -> bool:
        """Whether those who hear of it have something new: it comes from outside, and is no repetition."""
        return not self.echo and not self.repeats


class _Snapshot(Struct):
    persona_id: str | None
    swarm_id: str | None
    timestamp: datetime
    payload: _Payload


_decode = msgspec.json.Decoder(_Snapshot).decode


class Memory:
    """The shared memories of swarms."""

    def __init__(self, bus: Bus, roster: Roster, remembered: Callable[[str], None]) -> None:
        self._bus = bus
        self._roster = roster
        self._remembered = remembered
        self._held: dict[str, deque[tuple[str | None, ContextLine]]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._members: dict[str, set[str]] = {}
        """Living personas of the swarms that are listened to."""

        self._primed = False

    def of(self, swarm_id: str | None, persona_id: str) -> list[ContextLine]:
        """Return what a persona is told of its swarm's memory, oldest first: what is not its own."""
        held = self._held.get(swarm_id) if swarm_id is not None else None
        return [line for whose, line in held if whose != persona_id] if held else []

    async def prime(self, snapshots: Iterable[bytes]) -> None:
        """Begin with the snapshots that the event stream holds; listen to swarms in which somebody shares."""
        if self._primed:
            return
        self._primed = True
        for record in list(self._roster.personas.values()):
            await self.spawned(record)
        for event in snapshots:
            self._note(event)

    async def spawned(self, record: PersonaRecord) -> None:
        """Take note of a persona: its swarm is listened to from when somebody in it shares."""
        swarm_id, living = record.identity.swarm_id, record.status is not PersonaStatus.REAPED
        if swarm_id is None or not living:
            return
        if (members := self._members.get(swarm_id)) is not None:
            members.add(record.identity.id)
        elif record.policy.share_memory and self._primed:
            self._members[swarm_id] = self._living(swarm_id)
            subject = subjects.events_of_swarm(swarm_id, EventType.SNAPSHOT_COMPRESSED)
            await self._bus.subscribe(subject, self._receive)

    def reaped(self, persona_id: str) -> None:
        """Take note that a persona is no more."""
        swarm_id = self._roster.swarm_of(persona_id)
        if swarm_id is not None and (members := self._members.get(swarm_id)) is not None:
            members.discard(persona_id)

    def _living(self, swarm_id: str) -> set[str]:
        return {
            name
            for name, record in self._roster.personas.items()
            if record.identity.swarm_id == swarm_id and record.status is not PersonaStatus.REAPED
        }

    async def _receive(self, message: Msg) -> None:
        noted = self._note(message.data)
        if noted is not None and noted.persona_id is not None and noted.payload.wakes:
            for name in self._members.get(noted.swarm_id or "", ()):
                if name != noted.persona_id:
                    self._remembered(name)

    def _note(self, event: bytes) -> _Snapshot | None:
        """Remember a snapshot and return it, if it is to be: a swarm's own, or of a persona that shares."""
        try:
            seen = _decode(event)
        except UNREADABLE as error:
            log.warning("no_snapshot", error=str(error))
            return None
        if seen.swarm_id is None or not self._shares(seen.persona_id):
            return None
        who = seen.payload.persona.name if seen.payload.persona is not None else "the swarm"
        said = trim(f"{who}: {seen.payload.thinking}", EXCERPT_CHARS)
        line = ContextLine(EventType.SNAPSHOT_COMPRESSED, seen.timestamp.isoformat(), said)
        self._held[seen.swarm_id].append((seen.persona_id, line))
        return seen

    def _shares(self, persona_id: str | None) -> bool:
        if persona_id is None:
            return True
        record = self._roster.personas.get(persona_id)
        return record is not None and record.policy.share_memory
