"""What an owner commits beside thoughts: events of its own, what inboxes received, credits. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from libs.contracts.accounts import CreditChange
from libs.contracts.journal import ItemArrived, JournalEvent, Pause, RollUpCost, ShardRecord
from libs.contracts.place import Place
from libs.contracts.thoughts import OwnEventType

_EVENT_BYTES = 256
_CHANGE_BYTES = 1400
_PAUSE_BYTES = 1400
_ARRIVED_BYTES = 360
_NUMBER_BYTES = 20


@dataclass(slots=True)
class Note:
    """Goes into a record as a whole, in the order in which notes were made."""

    events: list[JournalEvent] = field(default_factory=list)
    received: int = 0
    arrived: list[ItemArrived] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    credits: list[CreditChange] = field(default_factory=list)
    rolled_up: list[tuple[str, str]] = field(default_factory=list)
    roll_up_costs: list[RollUpCost] = field(default_factory=list)
    folded_in: dict[str, Place] = field(default_factory=dict)
    traces: dict[int, str] = field(default_factory=dict)
    """By their place in `events`, the contexts of those that are traced."""

    stored: asyncio.Future[None] | None = None

    @property
    def weight(self) -> int:
        """About how many bytes it takes in a record, and no less."""
        return (
            sum(_EVENT_BYTES + len(event.event) for event in self.events)
            + _CHANGE_BYTES * (len(self.credits) + 2 * len(self.rolled_up) + len(self.roll_up_costs))
            + _PAUSE_BYTES * len(self.pauses)
            + _ARRIVED_BYTES * len(self.arrived)
            + _NUMBER_BYTES * len(self.dropped)
            + _EVENT_BYTES * (len(self.resumed) + len(self.traces))
        )


def first(notes: Sequence[Note], room: int) -> list[Note]:
    """Return the first notes that fit so many bytes."""
    taken: list[Note] = []
    for note in notes:
        room -= note.weight
        if room < 0:
            break
        taken.append(note)
    return taken


def keep_of_living(notes: Sequence[Note], is_reaped: Callable[[str], bool]) -> None:
    """Take out what notes say of who is reaped meanwhile: only that its items are dropped may follow."""
    for note in notes:
        kept = [place for place, event in enumerate(note.events) if _may_follow(event, is_reaped)]
        if len(kept) < len(note.events):
            note.traces = {now: note.traces[place] for now, place in enumerate(kept) if place in note.traces}
            note.events = [note.events[place] for place in kept]
            note.arrived = [item for item in note.arrived if not is_reaped(item.persona_id)]


def _may_follow(event: JournalEvent, is_reaped: Callable[[str], bool]) -> bool:
    lives = event.persona_id is None or not is_reaped(event.persona_id)
    return lives or event.event_type == OwnEventType.INBOX_DROPPED


def in_record(notes: Sequence[Note]) -> ShardRecord:
    """Return what notes say as the record that a number, an owner and thoughts are still to be put into."""
    return ShardRecord(
        events=[event for note in notes for event in note.events],
        received=max((note.received for note in notes), default=0),
        arrived=[item for note in notes for item in note.arrived],
        dropped=[sequence for note in notes for sequence in note.dropped],
        pauses=[pause for note in notes for pause in note.pauses],
        resumed=[persona_id for note in notes for persona_id in note.resumed],
        credits=[change for note in notes for change in note.credits],
        rolled_up=[one for note in notes for one in note.rolled_up],
        event_traces=_traces(notes),
        roll_up_costs=[cost for note in notes for cost in note.roll_up_costs],
        folded_in={swarm_id: place for note in notes for swarm_id, place in note.folded_in.items()},
    )


def resolve(notes: Sequence[Note]) -> None:
    """Tell whoever waits for it that these are stored."""
    for note in notes:
        if note.stored is not None and not note.stored.done():
            note.stored.set_result(None)


def refuse(notes: Sequence[Note], error: Exception) -> None:
    """Tell whoever waits for it that these are not stored here any more."""
    for note in notes:
        if note.stored is not None and not note.stored.done():
            note.stored.set_exception(error)


def _traces(notes: Sequence[Note]) -> dict[int, str]:
    """Return the contexts of events by their place among those of all notes."""
    found: dict[int, str] = {}
    before = 0
    for note in notes:
        found.update((before + place, trace) for place, trace in note.traces.items())
        before += len(note.events)
    return found
