"""Recent context: the newest 8 of a persona's own events and of some events without a persona [3.5]."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TypeAlias

import msgspec
from msgspec import Struct

from libs.cognition.text import CONTEXT_EXCERPT_CHARS, trim
from libs.contracts.limits import CONTEXT_EVENTS
from libs.contracts.place import Place
from libs.contracts.thoughts import EventType
from libs.contracts.work import ContextLine

Recent: TypeAlias = "deque[tuple[Place, ContextLine]]"

SHARED_TYPES = frozenset({EventType.CHECK_RESULT, EventType.PROPOSAL_CREATED, EventType.SNAPSHOT_COMPRESSED})
"""Types of events without a persona that every persona's context holds."""

_UTF8_MAX = 4


class _Seen(Struct, frozen=True):
    event_type: str
    timestamp: str
    payload: msgspec.Raw


_decode = msgspec.json.Decoder(_Seen).decode


def recent() -> Recent:
    """Return an empty record of recent events, which forgets all but the newest 8."""
    return deque(maxlen=CONTEXT_EVENTS)


def context_line(event: bytes | msgspec.Raw) -> ContextLine:
    """Return an event's JSON as a line of context."""
    seen = _decode(event)
    payload = memoryview(seen.payload)
    cut = (CONTEXT_EXCERPT_CHARS + 1) * _UTF8_MAX
    excerpt = bytes(payload[:cut]).decode(errors="ignore")
    return ContextLine(seen.event_type, seen.timestamp, trim(excerpt, CONTEXT_EXCERPT_CHARS))


def merge(own: Iterable[tuple[Place, ContextLine]], shared: Recent) -> list[ContextLine]:
    """Return the newest 8 of both, in stream order."""
    if not shared:
        return [line for _, line in own]
    return [line for _, line in sorted([*own, *shared], key=lambda entry: entry[0])[-CONTEXT_EVENTS:]]


def restored(held: Recent, live: Recent, public: Place) -> Recent:
    """Return what the stream holds and, behind it, what came since it was read up to `public`."""
    events = recent()
    events.extend(sorted({*held, *(entry for entry in live if entry[0] > public)}, key=lambda e: e[0]))
    return events
