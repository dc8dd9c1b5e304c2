"""Reads the event stream while the storm blows, past every proxy, and keeps what each event proves."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from libs.bus.connection import Bus
from libs.bus.errors import BusError
from libs.bus.read import Stored, batch, message_at
from libs.cognition.text import SUMMARY_CHARS, trim

_BATCH = 2000
_PAUSE_S = 0.05


class Event(msgspec.Struct):
    """What is read of an event."""

    id: str
    timestamp: datetime
    event_type: str
    persona_id: str | None
    swarm_id: str | None
    payload: dict[str, Any]

    @property
    def persona(self) -> str:
        """Its persona; empty where it has none."""
        return self.persona_id or ""

    @property
    def is_roll_up(self) -> bool:
        """Whether it says what a swarm remembers, not a persona."""
        return self.event_type == "snapshot_compressed" and self.persona_id is None

    @property
    def tokens(self) -> int:
        """What the model was paid for it."""
        usage = self.payload.get("usage") if "thinking" in self.payload else None
        return int(usage["total_tokens"]) if usage is not None else 0


class Copy(NamedTuple):
    """What a snapshot or proposal must say of the event that it stands for."""

    at: datetime
    personas: tuple[str, ...]
    summary: str = ""


_decode = msgspec.json.Decoder(Event).decode


class Collector:
    """Everything that the stream has shown so far; `findings` is what must not be."""

    def __init__(self, bus: Bus) -> None:
        self.also: Callable[[Event], None] = lambda event: None
        """Is told every event."""

        self.sequence = 0
        self.thoughts: dict[str, int] = {}
        """The last thought of each persona."""

        self.spawned: set[str] = set()
        self.reaped: set[str] = set()
        self.proposals: dict[str, Copy] = {}
        self.snapshots: list[Copy] = []
        self.errors: Counter[str] = Counter()
        """What fallback thoughts say, and how often."""

        self.findings: list[str] = []
        self.newest_at = time.monotonic()
        """When the newest event was seen."""

        self._bus = bus
        self._identifiers: set[bytes] = set()

    @property
    def total(self) -> int:
        """How many thoughts there are."""
        return sum(self.thoughts.values())

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            if not await self.step():
                await asyncio.sleep(_PAUSE_S)

    async def step(self) -> int:
        """Read what there is behind the last event read; return how many events that were."""
        try:
            found = await batch(self._bus, "EVENTS", {"seq": self.sequence + 1, "batch": _BATCH})
        except BusError:
            return 0
        for stored in found:
            if stored.sequence != self.sequence + 1 and not await self._fill(stored.sequence):
                return 0
            self._take(stored)
        return len(found)

    async def _fill(self, until: int) -> bool:
        """Ask the leader for what a replica has left out; only what it lacks, too, is missing."""
        while self.sequence + 1 < until:
            try:
                stored = await message_at(self._bus, "EVENTS", self.sequence + 1)
            except BusError:
                return False
            if stored is None:
                self.findings.append(f"event {self.sequence + 1} is missing")
                self.sequence += 1
            else:
                self._take(stored)
        return True

    def _take(self, stored: Stored) -> None:
        event = _decode(stored.data)
        self.sequence, self.newest_at = stored.sequence, time.monotonic()
        identifier = event.id.encode()
        if identifier in self._identifiers:
            self._find(stored, f"{event.id} stands twice")
        self._identifiers.add(identifier)
        persona = event.persona
        if persona in self.reaped and event.event_type != "inbox_dropped":  # what it had not handled
            self._find(stored, f"{event.event_type} of {persona} after its end")
        if event.event_type == "persona_spawned":
            self._spawned(stored, persona)
        elif event.event_type == "persona_reaped":
            self.reaped.add(persona)
        elif "thinking" in event.payload and not event.is_roll_up:
            self._thought(stored, persona, event.payload)
        self.also(event)
        if event.event_type == "proposal_created":
            self.proposals[event.payload["proposal_id"]] = Copy(event.timestamp, (persona,))
        elif event.event_type == "snapshot_compressed":
            scope = event.payload["persona_scope"] if event.is_roll_up else [persona]
            summary = trim(event.payload["thinking"], SUMMARY_CHARS)
            self.snapshots.append(Copy(event.timestamp, tuple(scope), summary))

    def _spawned(self, stored: Stored, persona: str) -> None:
        if persona in self.spawned:
            self._find(stored, f"{persona} is spawned twice")
        self.spawned.add(persona)

    def _thought(self, stored: Stored, persona: str, payload: dict[str, Any]) -> None:
        before, count = self.thoughts.get(persona, 0), payload["thought_count"]
        if count != before + 1:
            self._find(stored, f"{persona}: thought {count} follows {before}")
        if persona not in self.spawned:
            self._find(stored, f"{persona} thinks before it is spawned")
        self.thoughts[persona] = count
        self.errors[str(payload["error"])[:80]] += 1

    def _find(self, stored: Stored, what: str) -> None:
        self.findings.append(f"event {stored.sequence}: {what}")
