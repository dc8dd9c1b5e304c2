"""Recent context: the newest 8 of a persona's own events and of some events without a persona [3.5]."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import msgspec
from msgspec import Struct

from libs.cognition.text import CONTEXT_EXCERPT_CHARS, trim
from libs.contracts.limits import CONTEXT_EVENTS
from libs.contracts.place import Place
from libs.contracts.thoughts import EventType
from libs.contracts.work import ContextLine

SHARED_TYPES = frozenset({EventType.CHECK_RESULT, EventType.PROPOSAL_CREATED, EventType.SNAPSHOT_COMPRESSED})
"""Types of events without a persona that every persona's context holds."""

OF_REFERENCE = frozenset(kind.value for kind in EventType)
"""Types of events that a context may hold at all: those that this project adds are told in other ways."""

_UTF8_MAX = 4


class _Seen(Struct, frozen=True):
    event_type: str
    timestamp: str
    payload: msgspec.Raw


_decode = msgspec.json.Decoder(_Seen).decode
_encode = msgspec.json.Encoder().encode


class Remembered(Struct, frozen=True, gc=False):
    """An event in somebody's context. A large swarm has a million of these, so they are packed."""

    sequence: int
    index: int
    line: bytes
    """The JSON of its `ContextLine`."""

    @property
    def place(self) -> Place:
        """Where the event stands in the journal."""
        return self.sequence, self.index


class Recent(list[Remembered]):
    """The newest 8 events of a context, in stream order."""

    __slots__ = ()

    def add(self, place: Place, line: ContextLine) -> None:
        """Add an event, unless it, or a later one, stands there already; the oldest of 9 is forgotten."""
        if self and place <= self[-1].place:
            return
        if len(self) == CONTEXT_EVENTS:
            del self[0]
        self.append(Remembered(place[0], place[1], _encode(line)))


def context_line(event: bytes | msgspec.Raw) -> ContextLine:
    """Return an event's JSON as a line of context."""
    seen = _decode(event)
    payload = memoryview(seen.payload)
    cut = (CONTEXT_EXCERPT_CHARS + 1) * _UTF8_MAX
    excerpt = bytes(payload[:cut]).decode(errors="ignore")
    return ContextLine(seen.event_type, seen.timestamp, trim(excerpt, CONTEXT_EXCERPT_CHARS))


def merge(own: Recent, shared: Recent) -> list[Remembered]:
    """Return the newest 8 of both, in stream order, frozen."""
    if shared and not (len(own) == CONTEXT_EVENTS and own[0].place > shared[-1].place):
        return sorted([*own, *shared], key=_place)[-CONTEXT_EVENTS:]
    return own[:]


def packed(context: Iterable[Remembered]) -> list[ContextLine]:
    """Return events in their final JSON, which only an encoder reads: a thinker unpacks them."""
    return cast("list[ContextLine]", [msgspec.Raw(event.line) for event in context])


def restored(held: Recent, live: Recent, public: Place) -> Recent:
    """Return what the stream holds and, behind it, what came since it was read up to `public`."""
    events = {*held, *(event for event in live if event.place > public)}
    return Recent(sorted(events, key=_place)[-CONTEXT_EVENTS:])


def _place(event: Remembered) -> Place:
    return event.place
