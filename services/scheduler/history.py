"""Context after a restart: what the event stream still holds, and what is about to follow in it [3.5]."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import msgspec

from libs.bus.connection import Bus
from libs.bus.errors import UNREADABLE
from libs.bus.read import all_held
from libs.cognition.context import OF_REFERENCE, SHARED_TYPES, Recent, context_line
from libs.contracts import streams
from libs.contracts.journal import JournalEvent, RegistryRecord
from libs.contracts.place import Place, parse_place
from libs.contracts.streams import PLACE
from libs.contracts.thoughts import EventType
from libs.journal.tail import Tail

_decode_record = msgspec.json.Decoder(RegistryRecord).decode


class _Owner(msgspec.Struct):
    persona_id: str | None
    swarm_id: str | None
    event_type: str


_decode_owner = msgspec.json.Decoder(_Owner).decode


@dataclass
class History:
    """Recent events by persona, those without a persona, and where the event stream ends."""

    own: dict[str, Recent] = field(default_factory=lambda: defaultdict(Recent))
    shared: Recent = field(default_factory=Recent)
    public: Place = (0, 0)
    snapshots: list[bytes] = field(default_factory=list)
    """Snapshots that may be of shared memories, in stream order."""

    def add(self, place: Place, persona_id: str | None, event_type: str, event: bytes | msgspec.Raw) -> None:
        """Take an event, in stream order; those of a swarm as a whole are its memory's."""
        if event_type not in OF_REFERENCE:
            return
        if persona_id is not None:
            self.own[persona_id].add(place, context_line(event))
        elif event_type in SHARED_TYPES:
            self.shared.add(place, context_line(event))


async def read_history(bus: Bus, registry: Tail) -> History:
    """Read the event stream, then the registry's events that are not in it yet.

    `registry` is a fresh tail of `j.registry`: it is only read. A shard's own thoughts that are not public
    yet come from folding its journal.
    """
    history = History()

    async for stored in all_held(bus, streams.EVENTS):
        if PLACE not in stored.headers:
            continue  # a stranger's
        history.public = parse_place(stored.headers[PLACE])
        owner = _decode_owner(stored.data)
        if owner.swarm_id is not None and owner.event_type == EventType.SNAPSHOT_COMPRESSED:
            history.snapshots.append(stored.data)
        if owner.persona_id is not None or owner.swarm_id is None:
            history.add(history.public, owner.persona_id, owner.event_type, stored.data)
    for stored in await registry.peek():
        for index, event in enumerate(_events_of(stored.data), start=1):
            place = (stored.sequence, index)
            if place > history.public:
                history.add(place, event.persona_id, event.event_type, event.event)
    return history


def _events_of(data: bytes) -> list[JournalEvent]:
    try:
        return _decode_record(data).events
    except UNREADABLE:
        return []
