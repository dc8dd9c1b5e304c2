"""Reading the event and snapshot streams for clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from libs.bus.connection import Bus
from libs.bus.read import Stored, batch, stream_state
from libs.contracts import streams, subjects
from libs.contracts.refusals import NotFound
from libs.contracts.thoughts import (
    EventPage,
    MemorySnapshot,
    SequencedEvent,
    SequencedSnapshot,
    SnapshotPage,
    SnapshotScope,
    ThoughtEvent,
)
from libs.contracts.tokens import NONE, encode

_decode_event = msgspec.json.Decoder(ThoughtEvent).decode
_decode_snapshot = msgspec.json.Decoder(MemorySnapshot).decode


_LOOKED_BACK = 8
"""How far back the newest snapshot is looked for: what a stranger put behind it is passed over."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a stream holds now. A stream without messages has `first = last + 1`."""

    first: int
    last: int


async def held(bus: Bus, stream: str) -> Held:
    """Return the first and last sequence that a stream holds, asked of its leader."""
    state = await stream_state(bus, stream)
    last = int(state["last_seq"])
    return Held(int(state["first_seq"]) if state["messages"] else last + 1, last)


async def read_after(
    bus: Bus, stream: str, after: int, limit: int, subject: str | None = None, *, most_bytes: int = 0
) -> list[Stored]:
    """Return up to `limit` messages with a sequence greater than `after`, in order, of one subject or all.

    With `most_bytes` the broker stops at the message that goes beyond them.
    """
    request: dict[str, Any] = {"seq": after + 1, "batch": limit}
    if subject is not None:
        request["next_by_subj"] = subject
    if most_bytes:
        request["max_bytes"] = most_bytes
    return await batch(bus, stream, request)


async def event_page(bus: Bus, after: int, limit: int, persona_id: str | None = None) -> EventPage:
    """Return events after a sequence; `skipped` counts those evicted before they could be read."""
    there = await held(bus, streams.EVENTS)
    subject = None if persona_id is None else _of_persona(persona_id)
    stored = await read_after(bus, streams.EVENTS, after, limit, subject) if after < there.last else []
    begin = stored[0].sequence if stored and subject is None else min(there.first, there.last + 1)
    return EventPage(
        events=[SequencedEvent(sequence=s.sequence, event=_decode_event(s.data)) for s in _ours(stored)],
        next_after=stored[-1].sequence if stored else after,
        skipped=max(begin - after - 1, 0) if after < there.last else 0,
        first_sequence=there.first,
        last_sequence=there.last,
    )


def _of_persona(persona_id: str) -> str:
    """Return the subjects of a persona's events, whatever its swarm."""
    return f"{subjects.EVENTS.removesuffix('>')}*.{encode(persona_id)}.*"


async def snapshot_page(
    bus: Bus, after: int, limit: int, scope: SnapshotScope | None = None, swarm_id: str | None = None
) -> SnapshotPage:
    """Return snapshots after a sequence, of one swarm or all: personas' own, roll-ups, or both."""
    there = await held(bus, streams.SNAPSHOTS)
    found: list[Stored] = []
    while after < there.last and len(found) < limit:
        stored = await read_after(bus, streams.SNAPSHOTS, after, limit - len(found), _of(scope, swarm_id))
        if not stored:
            break
        after = stored[-1].sequence
        found += [one for one in _ours(stored) if scope is not SnapshotScope.PERSONA or not _is_roll_up(one)]
    return SnapshotPage(
        snapshots=[SequencedSnapshot(sequence=s.sequence, snapshot=_decode_snapshot(s.data)) for s in found],
        next_after=after,
        first_sequence=there.first,
        last_sequence=there.last,
    )


def _of(scope: SnapshotScope | None, swarm_id: str | None) -> str | None:
    """Return the subjects that hold what is asked for, or more; None for all."""
    if scope is SnapshotScope.SWARM:
        return subjects.roll_ups_of(swarm_id)
    return subjects.snapshots_of(swarm_id) if swarm_id is not None else None


def _is_roll_up(snapshot: Stored) -> bool:
    return snapshot.subject.endswith(f".{NONE}")


async def latest_snapshot(bus: Bus) -> MemorySnapshot:
    """Return the newest snapshot. Raises `NotFound` while there is none."""
    there = await held(bus, streams.SNAPSHOTS)
    after = max(there.last - _LOOKED_BACK, 0)
    stored = _ours(await read_after(bus, streams.SNAPSHOTS, after, _LOOKED_BACK)) if there.last else []
    if not stored:
        raise NotFound.snapshot()
    return _decode_snapshot(stored[-1].data)


def _ours(stored: list[Stored]) -> list[Stored]:
    """Leave out what a stranger put into a stream."""
    return [message for message in stored if streams.PLACE in message.headers]
