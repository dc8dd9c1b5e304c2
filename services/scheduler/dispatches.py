"""What is being thought for a shard: one thought in flight a persona, and who was granted it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from libs.contracts.work import Chunk, GrantRequest, WorkItem


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

    waiting: dict[str, WorkItem] = field(default_factory=dict)
    """Items not settled yet, by persona."""


class Dispatches:
    """The table of a shard. It is rebuilt from the work queue by whoever takes the shard over."""

    def __init__(self) -> None:
        self._by_chunk: dict[str, Dispatch] = {}
        self._by_persona: dict[str, Dispatch] = {}

    def __len__(self) -> int:
        return len(self._by_persona)

    def in_flight(self, persona_id: str) -> bool:
        """Whether a thought of the persona is under way."""
        return persona_id in self._by_persona

    def item(self, persona_id: str) -> WorkItem | None:
        """Return what is being thought for a persona."""
        dispatch = self._by_persona.get(persona_id)
        return dispatch.waiting.get(persona_id) if dispatch is not None else None

    def all(self) -> list[Dispatch]:
        """Return every dispatch."""
        return list(self._by_chunk.values())

    def begin(self, chunk: Chunk, now: float, sequence: int | None = None) -> Dispatch:
        """Enter a chunk. Items whose persona has a thought under way already are left out.

        A second copy of a chunk that is entered already changes nothing.
        """
        if (known := self._by_chunk.get(chunk.id)) is not None:
            return known
        free = {i.persona_id: i for i in chunk.items if i.persona_id not in self._by_persona}
        dispatch = Dispatch(chunk, now, sequence, touched=now, waiting=free)
        self._by_chunk[chunk.id] = dispatch
        self._by_persona.update(dict.fromkeys(free, dispatch))
        return dispatch

    def grant(self, request: GrantRequest, run: int | None, now: float) -> list[int]:
        """Return the indexes of a chunk's items that the asking thinker is to think.

        None are granted of a chunk that is unknown, a second copy, or of another run than the running one
        unless it was granted before the run began to stop.
        """
        dispatch = self._by_chunk.get(request.chunk)
        if dispatch is None:
            return []
        if dispatch.chunk.run != run and dispatch.granted_to is None:
            return []
        if dispatch.sequence is None:
            dispatch.sequence = request.sequence
        if dispatch.sequence != request.sequence:
            return []
        dispatch.granted_to, dispatch.touched = request.thinker, now
        items = dispatch.chunk.items
        return [i for i, item in enumerate(items) if self._by_persona.get(item.persona_id) is dispatch]

    def touch(self, chunk_id: str, now: float) -> None:
        """Note a sign of life of a chunk's thinker."""
        dispatch = self._by_chunk.get(chunk_id)
        if dispatch is not None:
            dispatch.touched = now

    def settle(self, persona_ids: Iterable[str]) -> None:
        """Forget these personas' thoughts: they are stored, or no longer wanted."""
        for persona_id in persona_ids:
            dispatch = self._by_persona.pop(persona_id, None)
            if dispatch is not None:
                dispatch.waiting.pop(persona_id, None)
                if not dispatch.waiting:
                    self._by_chunk.pop(dispatch.chunk.id, None)

    def drop(self, dispatch: Dispatch) -> list[str]:
        """Forget a whole chunk and return the personas whose thought it was to be."""
        personas = list(dispatch.waiting)
        self.settle(personas)
        self._by_chunk.pop(dispatch.chunk.id, None)
        return personas

    def drop_ungranted(self) -> list[Dispatch]:
        """Forget every chunk that no thinker was granted and return them: their thoughts never began."""
        ungranted = [dispatch for dispatch in self._by_chunk.values() if dispatch.granted_to is None]
        for dispatch in ungranted:
            self.drop(dispatch)
        return ungranted

    def by_sequence(self, sequence: int) -> Dispatch | None:
        """Return the dispatch at a place of the work queue."""
        return next((d for d in self._by_chunk.values() if d.sequence == sequence), None)

    def neglected(self, now: float, seconds: float) -> list[Dispatch]:
        """Return dispatches of which nothing was heard for so long."""
        return [dispatch for dispatch in self._by_chunk.values() if now - dispatch.touched > seconds]
