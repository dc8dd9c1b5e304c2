"""Which swarms' memories are due to be rolled up, what goes in, and how without a model [A18]. Pure.

Times are seconds of a clock that the caller reads. A persona's snapshot comes here only by a thought that
says that its persona shares it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from uuid import UUID, uuid5

from msgspec import Struct, field, structs

from libs.cognition.answer import tokens_of
from libs.cognition.text import SUMMARY_CHARS, count_facts, trim
from libs.contracts.journal import PublicRecord, ThoughtEntry
from libs.contracts.lives import Spent
from libs.contracts.place import Place
from libs.contracts.rollups import (
    ROLLED_UP_MOST,
    RollUpAsk,
    RollUpRequest,
    RollUpTerms,
    SharedSnapshot,
    SummaryReply,
)
from libs.contracts.thoughts import EventType, Source, Usage
from services.compressor.folding import shared_snapshot

LEAST = 2
"""New snapshots that a swarm's memory is rolled up for."""

SWARMS_MOST = 2048
"""Swarms that are kept in mind; of more, new ones have to wait until nothing is new of one of these."""

_LINE_END = 4
"""Characters of a line beyond its words: where it is cut, and its end."""

_IDS = UUID("0b8b6a5c-9d0b-4b53-8d0e-6b0f4b9f8a1e")


class _Swarm(Struct):
    """New snapshots of one swarm."""

    rolled_at: float
    """When it was rolled up last; long ago where never."""

    snapshots: deque[tuple[Place, SharedSnapshot]] = field(
        default_factory=lambda: deque(maxlen=ROLLED_UP_MOST)
    )


class Taken(Struct, frozen=True, kw_only=True):
    """What a roll-up folds in."""

    id: str
    swarm_id: str
    snapshots: list[SharedSnapshot]
    """Oldest first."""

    places: list[Place] = []
    """Where the journal has each."""

    @property
    def by_model(self) -> bool:
        """Whether any of it is a model's; else there is nothing that a model could sum up."""
        return any(snapshot.by_model for snapshot in self.snapshots)

    def ask(self) -> RollUpAsk:
        """Return the question whether a model may be asked."""
        chars = sum(len(one.summary) + len(one.name) + len(one.role) for one in self.snapshots)
        return RollUpAsk(
            id=self.id,
            swarm_id=self.swarm_id,
            persona_id=self.snapshots[-1].persona_id,
            chars=chars,
            first=self.places[0] if self.places else None,
        )


class RollUps:
    """The new snapshots of swarms, and when each may be rolled up again."""

    def __init__(self, interval_s: float) -> None:
        self._left_out = 0
        self._interval = interval_s
        self._place: Place = (0, 0)
        self._swarms: dict[str, _Swarm] = {}

    def note(self, record: PublicRecord, sequence: int) -> None:
        """Take note of a record of the journal. Repeated, it changes nothing."""
        for number, thought in enumerate(record.thoughts, start=1):
            if thought.effort is not None and thought.effort.shares:
                self._note(thought, (sequence, number))

    def _note(self, thought: ThoughtEntry, place: Place) -> None:
        swarm_id = thought.swarm_id
        if swarm_id is None or place <= self._place:
            return
        for event_type, event in thought.events:
            if event_type == EventType.SNAPSHOT_COMPRESSED:
                self._place = place
                self._add(swarm_id, place, shared_snapshot(event))

    @property
    def waiting(self) -> bool:
        """Whether any swarm has enough that is new, be it due or not."""
        return any(len(swarm.snapshots) >= LEAST for swarm in self._swarms.values())

    def due(self, now: float) -> list[str]:
        """Return the swarms to be rolled up now, those first that were longest ago."""
        since = now - self._interval
        ready = [
            (swarm.rolled_at, swarm_id)
            for swarm_id, swarm in self._swarms.items()
            if len(swarm.snapshots) >= LEAST and swarm.rolled_at <= since
        ]
        return [swarm_id for _, swarm_id in sorted(ready)]

    def take(self, swarm_id: str, now: float) -> Taken:
        """Return what goes into a swarm's roll-up; it counts as rolled up."""
        swarm = self._swarms[swarm_id]
        taken, swarm.rolled_at = list(swarm.snapshots), now
        swarm.snapshots.clear()
        places = ",".join(f"{place[0]}.{place[1]}" for place, _ in taken)
        return Taken(
            id=str(uuid5(_IDS, f"{swarm_id} {places}")),
            swarm_id=swarm_id,
            snapshots=[snapshot for _, snapshot in taken],
            places=[place for place, _ in taken],
        )

    def put_back(self, taken: Taken, behind: Place) -> None:
        """Have what lies behind a place rolled up again, with what has come meanwhile."""
        left = [one for one in zip(taken.places, taken.snapshots, strict=True) if one[0] > behind]
        swarm = self._swarms.get(taken.swarm_id)
        if swarm is None:  # forgotten meanwhile
            self._left_out += len(left)
            return
        both = [*left, *swarm.snapshots]
        self._left_out += max(len(both) - ROLLED_UP_MOST, 0)
        swarm.snapshots = deque(both, maxlen=ROLLED_UP_MOST)

    def left_out(self) -> int:
        """Return how many snapshots more no roll-up folds in: newer ones came, too many swarms, another's."""
        count, self._left_out = self._left_out, 0
        return count

    def forget(self) -> None:
        """Let go of all new snapshots: another compressor rolls up what it reads from now on."""
        for swarm in self._swarms.values():
            self._left_out += len(swarm.snapshots)
            swarm.snapshots.clear()

    def _add(self, swarm_id: str, place: Place, snapshot: SharedSnapshot) -> None:
        swarm = self._swarms.get(swarm_id)
        if swarm is None:
            if len(self._swarms) >= SWARMS_MOST and not self._made_room():
                self._left_out += 1
                return
            swarm = self._swarms[swarm_id] = _Swarm(float("-inf"))
        self._left_out += len(swarm.snapshots) == ROLLED_UP_MOST
        swarm.snapshots.append((place, snapshot))

    def _made_room(self) -> bool:
        """Forget a swarm of which nothing is new, if there is one."""
        idle = next((name for name, swarm in self._swarms.items() if not swarm.snapshots), None)
        if idle is not None:
            del self._swarms[idle]
        return idle is not None


def rolled_up(
    taken: Taken, reply: SummaryReply | None, error: str | None = None, terms: RollUpTerms | None = None
) -> RollUpRequest:
    """Return a roll-up as its swarm's owner is to journal it: by the model, or in its deterministic form.

    `error` says why nobody was asked, or answered; `terms`, under what the cost of the answer was set aside.
    """
    made = _made(taken, reply, error)
    if reply is None:
        return made
    return structs.replace(made, spent=_spent(reply), terms=terms)


def _spent(reply: SummaryReply) -> Spent:
    return Spent(1, tokens_of(reply.usage), reply.cpu_ms) if reply.asked else Spent()


def _made(taken: Taken, reply: SummaryReply | None, error: str | None) -> RollUpRequest:
    if reply is not None and reply.text is not None and reply.text.strip() and reply.told:
        folded = taken.snapshots[-reply.told :]
        return _request(taken, folded, reply.text, model=reply.model, usage=reply.usage, source=Source.MODEL)
    why = reply.error if reply is not None else error
    return _request(taken, taken.snapshots, deterministic(taken.snapshots), source=Source.FALLBACK, error=why)


def deterministic(snapshots: Sequence[SharedSnapshot]) -> str:
    """Return the roll-up of snapshots without a model: a line each, all of a length at most."""
    room = SUMMARY_CHARS // max(len(snapshots), 1) - _LINE_END
    return "\n".join(trim(f"{one.name}: {' '.join(one.summary.split())}", room) for one in snapshots)


def _request(
    taken: Taken,
    folded: Sequence[SharedSnapshot],
    text: str,
    *,
    source: Source,
    model: str | None = None,
    usage: Usage | None = None,
    error: str | None = None,
) -> RollUpRequest:
    summary = trim(text, SUMMARY_CHARS)
    return RollUpRequest(
        id=taken.id,
        swarm_id=taken.swarm_id,
        persona_scope=list(dict.fromkeys(snapshot.persona_id for snapshot in folded)),
        summary=summary,
        first=taken.places[0] if taken.places else None,
        last=taken.places[-1] if taken.places else None,
        cold_snapshot_count=len(folded),
        hot_event_count=sum(snapshot.hot_event_count for snapshot in folded),
        warm_fact_count=count_facts(summary),
        source=source,
        model=model,
        usage=usage,
        error=error,
    )
