"""What is being thought for a shard: one thought in flight a persona, and who was granted it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from msgspec import Struct

from libs.contracts.journal import ThoughtEntry
from libs.contracts.limits import MAX_DELIVER, TOGETHER
from libs.contracts.work import Chunk, GrantRequest
from services.scheduler.due import Due, traces_of

HEARD_S = 5.0
"""A thinker that was heard of within so many seconds still thinks: it says so every two seconds."""

PREVIOUS_OWNER = "granted by the previous owner"


@dataclass(slots=True)
class Dispatch:
    """A chunk in the work queue that is not settled yet."""

    chunk: Chunk
    begun: float
    """Monotonic time in seconds."""

    sequence: int | None = None
    """The chunk's place in the work queue, once known. Further copies of it are refused."""

    granted_to: str | None = None
    touched: float = 0.0
    """When the chunk was last granted or a result of it came."""

    attempts: int = 0
    """How many thinkers were granted it, one after the other's end."""

    delivery: int = 0
    """Which of its deliveries was granted last."""

    waiting: dict[str, Due] = field(default_factory=dict)
    """What is not settled yet, by persona."""

    def silence(self, now: float, since: float) -> float:
        """Return for how many seconds nothing was heard of it; from `since` on it could be."""
        return now - max(self.touched, since)


@dataclass(frozen=True, slots=True)
class Granted:
    """What a thinker is to think of a chunk."""

    dues: dict[int, Due]
    """By their index in the chunk."""

    waited: float | None = None
    """Seconds that they have waited since their dispatch, where they are granted for the first time."""

    held_by: str | None = None
    """Who still thinks of it; ask again."""

    suspect: Dispatch | None = None
    """It was granted as often as may be in this form: to be taken apart, or given up."""


class Age(Struct, frozen=True):
    """How long ago thoughts were dispatched."""

    seconds: float
    count: int
    """Thoughts of that age."""

    completed: int
    """Of these those that a model made."""


class Dispatches:
    """The table of a shard. It is rebuilt from the work queue by whoever takes the shard over."""

    def __init__(self) -> None:
        self._by_chunk: dict[str, Dispatch] = {}
        self._by_persona: dict[str, Dispatch] = {}
        self.traced = False
        """Whether any thought was ever traced."""

        self.given_up: Callable[[list[str]], None] = lambda persona_ids: None
        """Is told whose thoughts nobody begins anew: they are neither stored nor under way."""

    def __len__(self) -> int:
        return len(self._by_persona)

    def in_flight(self, persona_id: str) -> bool:
        """Whether a thought of the persona is under way."""
        return persona_id in self._by_persona

    def due(self, persona_id: str) -> Due | None:
        """Return what is being thought for a persona."""
        dispatch = self._by_persona.get(persona_id)
        return dispatch.waiting.get(persona_id) if dispatch is not None else None

    def all(self) -> list[Dispatch]:
        """Return every dispatch."""
        return list(self._by_chunk.values())

    def ages(self, thoughts: Iterable[ThoughtEntry], now: float) -> list[Age]:
        """Return how long ago thoughts of ours were dispatched."""
        began, completed = Counter[float](), Counter[float]()
        for thought in thoughts:
            dispatch = self._by_persona.get(thought.persona_id)
            if dispatch is not None and dispatch.granted_to != PREVIOUS_OWNER:
                began[dispatch.begun] += 1
                completed[dispatch.begun] += thought.effort is not None and thought.effort.by_model
        return [Age(now - begun, count, completed[begun]) for begun, count in began.items()]

    def oldest(self) -> float | None:
        """Return the monotonic time at which the oldest thought under way was dispatched."""
        return min((dispatch.begun for dispatch in self.all()), default=None)

    def begin(self, chunk: Chunk, dues: Iterable[Due], now: float, sequence: int | None = None) -> Dispatch:
        """Enter those thoughts of a chunk that are wanted, but for personas with a thought under way already.

        A second copy of a chunk that is entered already changes nothing. A chunk of which nothing is left is
        entered only where it lies in the work queue already, so that somebody sees it go.
        """
        if (known := self._by_chunk.get(chunk.id)) is not None:
            return known
        free = {due.persona_id: due for due in dues if due.persona_id not in self._by_persona}
        dispatch = Dispatch(chunk, now, sequence, touched=now, waiting=free)
        if free or sequence is not None:
            self._by_chunk[chunk.id] = dispatch
        self._by_persona.update(dict.fromkeys(free, dispatch))
        if chunk.traces:
            self.traced = True
        return dispatch

    def knows(self, chunk_id: str) -> bool:
        """Whether a chunk has thoughts under way."""
        return chunk_id in self._by_chunk

    def grant(self, request: GrantRequest, run: int | None, now: float, since: float) -> Granted:
        """Return which thoughts of a chunk the asking thinker is to think.

        None are granted of a chunk that is unknown, a second copy, or of another run than the running one
        unless it was granted before the run began to stop. While another thinker that holds the chunk too is
        still heard of, the answer names it: what it thinks need not be thought, and paid for, twice. That
        holds for a first delivery, too: a broker that was killed has forgotten its last ones. Silence counts
        from when it could be heard, which is `since`.
        """
        nothing = Granted({})
        dispatch = self._by_chunk.get(request.chunk)
        if dispatch is None:
            return nothing
        if dispatch.chunk.run != run and dispatch.granted_to is None:
            return nothing
        if dispatch.sequence is None:
            dispatch.sequence = request.sequence
        if dispatch.sequence != request.sequence:
            return nothing
        first = dispatch.granted_to is None
        others = dispatch.granted_to not in (None, request.thinker)
        if dispatch.granted_to == PREVIOUS_OWNER and request.deliveries == 1:
            others = False  # perhaps it was granted to nobody
        if others and dispatch.silence(now, since) < HEARD_S:
            return Granted({}, held_by=dispatch.granted_to)
        if request.deliveries != dispatch.delivery:
            if dispatch.attempts >= (MAX_DELIVER if dispatch.chunk.alone else TOGETHER):
                return Granted({}, suspect=dispatch)
            dispatch.attempts += 1
            dispatch.delivery = request.deliveries
        dispatch.granted_to, dispatch.touched = request.thinker, now
        wanted = {
            index: dispatch.waiting[ticket.persona_id]
            for index, ticket in enumerate(dispatch.chunk.items)
            if index >= request.begin and ticket.persona_id in dispatch.waiting
        }
        return Granted(wanted, now - dispatch.begun if first else None)

    def heard(self, chunk_id: str, thinker: str, now: float) -> None:
        """Note a sign of life of a thinker that thinks of a chunk. Another one's say nothing of the chunk.

        It speaks only of what it was granted: where that is news, a previous owner has done it.
        """
        dispatch = self._by_chunk.get(chunk_id)
        if dispatch is not None and dispatch.granted_to in (thinker, PREVIOUS_OWNER, None):
            dispatch.granted_to, dispatch.touched = thinker, now

    def forget(self, persona_ids: Iterable[str]) -> None:
        """Forget these personas' thoughts: they are stored, or no longer wanted."""
        for persona_id in persona_ids:
            due = self._let_go(persona_id)
            if due is not None and due.trace is not None:
                due.trace.end()

    def _let_go(self, persona_id: str) -> Due | None:
        dispatch = self._by_persona.pop(persona_id, None)
        if dispatch is None:
            return None
        due = dispatch.waiting.pop(persona_id, None)
        if not dispatch.waiting:
            self._by_chunk.pop(dispatch.chunk.id, None)
        return due

    def traces(self, thoughts: Iterable[ThoughtEntry]) -> dict[str, str]:
        """Return the contexts of those thoughts that are traced, by persona."""
        if not self.traced:
            return {}
        return traces_of(due for thought in thoughts if (due := self.due(thought.persona_id)) is not None)

    def drop(self, dispatch: Dispatch) -> list[str]:
        """Forget a whole chunk and return the personas whose thought it was to be.

        Traces of its thoughts go on: they may be dispatched anew.
        """
        personas = list(dispatch.waiting)
        for persona_id in personas:
            self._let_go(persona_id)
        self._by_chunk.pop(dispatch.chunk.id, None)
        return personas

    def abandon(self, dispatch: Dispatch) -> None:
        """Forget a whole chunk and end the traces of its thoughts: nobody dispatches them anew."""
        personas = list(dispatch.waiting)
        self.forget(personas)
        self.drop(dispatch)
        if personas:
            self.given_up(personas)

    def hand_over(self) -> None:
        """End the traces of what is under way as far as they are ours: the next owner goes on in them."""
        for dispatch in self.all():
            for due in dispatch.waiting.values():
                if due.trace is not None:
                    due.trace.hand_over()

    def of_run(self, run: int) -> list[Dispatch]:
        """Return every dispatch of a run or of one before it."""
        return [dispatch for dispatch in self._by_chunk.values() if dispatch.chunk.run <= run]

    def drop_ungranted(self, run: int) -> list[Dispatch]:
        """Forget chunks of a run that no thinker was granted and return them: their thoughts never began."""
        ungranted = [dispatch for dispatch in self.of_run(run) if dispatch.granted_to is None]
        for dispatch in ungranted:
            self.abandon(dispatch)
        return ungranted

    def by_sequence(self, sequence: int) -> Dispatch | None:
        """Return the dispatch at a place of the work queue."""
        return next((d for d in self._by_chunk.values() if d.sequence == sequence), None)

    def neglected(self, heard_for: Callable[[float], float], seconds: float) -> list[Dispatch]:
        """Return dispatches of which nothing was heard while it could be for so long: `Earshot.heard_for`."""
        return [one for one in self._by_chunk.values() if heard_for(one.touched) > seconds]
