"""How much a thinker has room for: shards without an owner take none of the others'.

A chunk whose shard nobody owns can neither be begun nor be settled. It is kept, so that no delivery of it is
used up, but makes room for others, up to a bound. Once its owner is back it is begun when there is room.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from libs.contracts.work import Chunk

WAITING_MOST = 1024
"""Thoughts that may wait for owners beside those in hand; more of them leave that much less room."""

_LEAST_PAUSE_S = 0.25
"""An owner that does not answer is given so many seconds at least, in which others have room."""


class Room:
    """Counts thoughts: those in hand, until their chunk's last is settled, and those that wait for owners."""

    def __init__(self, capacity: Callable[[], int]) -> None:
        """`capacity` is the backend's: twice as much may be in hand."""
        self.in_hand = 0
        self.waiting = 0
        self.changed: Callable[[], None] = lambda: None
        """Is told that there is more room."""

        self.one_at_a_time = asyncio.Lock()
        """Held by the chunk in hand whose thought is to be alone."""

        self.asking: dict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        """By shard, held by that chunk of those that wait for its owner which asks whether it is back."""

        self._capacity = capacity
        self._more = asyncio.Event()

    @property
    def taken(self) -> int:
        """How many thoughts are taken from the queue."""
        return self.in_hand + self.waiting

    @property
    def left(self) -> int:
        """For how many thoughts more there is room."""
        return 2 * self._capacity() - self.in_hand - max(0, self.waiting - WAITING_MOST)

    @asynccontextmanager
    async def place(self, chunk: Chunk) -> AsyncIterator[Place]:
        """Have a chunk in hand while the context is open. One that is to be alone waits for its turn."""
        place = Place(self, chunk)
        try:
            await place.take_up()
            yield place
        finally:
            place.leave()

    async def until_some(self) -> None:
        """Return once something may be taken up, however much waits."""
        while self.in_hand >= 2 * self._capacity():
            self._more.clear()
            await self._more.wait()

    def count(self, in_hand: int, waiting: int) -> None:
        """Count so many thoughts more."""
        self.in_hand += in_hand
        self.waiting += waiting
        if in_hand < 0:
            self._more.set()
            self.changed()


class Place:
    """The place of a chunk: in hand, or waiting for its owner. What is answered of it waits by itself."""

    def __init__(self, room: Room, chunk: Chunk) -> None:
        self._room = room
        self._chunk = chunk
        self._size = len(chunk.items)
        self._answered = 0
        self._counted = (0, 0)
        self._held: list[asyncio.Lock] = []

    async def take_up(self) -> None:
        """Have the chunk in hand."""
        self._count(self._size, 0)
        if self._chunk.alone:
            await self._hold(self._room.one_at_a_time)

    async def until_asked_again(self, seconds: float, *, there: bool) -> None:
        """Make room for so long, and until there is some again: the owner is away, or `there` and says wait.

        Of the chunks that wait for an owner who is away one asks; the others go on when it has an answer.
        """
        self._let_go(self._room.one_at_a_time)
        self._count(0, self._size)
        asking, seconds = self._room.asking[self._chunk.shard], max(seconds, _LEAST_PAUSE_S)
        if there:
            self._let_go(asking)
        elif asking not in self._held:
            seconds = 0.0 if asking.locked() else seconds
            await self._hold(asking)
        await asyncio.sleep(seconds)
        await self._room.until_some()
        await self.take_up()

    async def until_taken(self, seconds: float, *, there: bool) -> None:
        """Make room for so long and from then on: the owner takes no results now."""
        self._unsettled()
        await asyncio.sleep(seconds)

    def granted(self, thoughts: int) -> None:
        """Note that so many thoughts of the chunk are wanted."""
        self._let_go(self._room.asking[self._chunk.shard])
        self._size = thoughts
        self._count(thoughts, 0)

    def answered(self, thoughts: int = 1) -> None:
        """Note that so many thoughts more are to be settled."""
        self._answered += thoughts
        if self._counted[1]:  # the owner is away
            self._unsettled()

    def _unsettled(self) -> None:
        if self._answered == self._size:
            self._let_go(self._room.one_at_a_time)
        self._count(self._size - self._answered, self._answered)

    def settled(self, thoughts: int) -> None:
        """Note that so many thoughts are settled."""
        self._size -= thoughts
        self._answered -= thoughts
        if self._counted[1]:  # otherwise a chunk counts whole until its end
            self._count(self._size, 0)

    def leave(self) -> None:
        """Have nothing in hand any more."""
        for lock in self._held:
            lock.release()
        self._held.clear()
        self._count(0, 0)

    def _count(self, in_hand: int, waiting: int) -> None:
        before, self._counted = self._counted, (in_hand, waiting)
        self._room.count(in_hand - before[0], waiting - before[1])

    async def _hold(self, lock: asyncio.Lock) -> None:
        await lock.acquire()
        self._held.append(lock)

    def _let_go(self, lock: asyncio.Lock) -> None:
        if lock in self._held:
            self._held.remove(lock)
            lock.release()
