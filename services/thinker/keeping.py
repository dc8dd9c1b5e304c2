"""What a thinker has in hand: kept by saying so again and again, and handed back when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from libs.bus.loop import Postpone
from libs.bus.queue import Work
from libs.contracts.limits import ACK_WAIT_S
from libs.contracts.work import Chunk
from services.thinker.results import Owners

_AGAIN_S = 0.25


class Held:
    """A chunk in hand, and the task that handles it."""

    __slots__ = ("chunk", "granted", "said_at", "taken_back", "task", "work")

    def __init__(self, chunk: Chunk, work: Work, task: asyncio.Task[object], now: float) -> None:
        self.chunk = chunk
        self.work = work
        self.task = task
        self.said_at = now
        self.granted = False
        """Whether its owner knows that it is being thought."""

        self.taken_back = 0
        """How often its task was cancelled because the thinker stops."""

    def take_back(self) -> None:
        """Cancel the task."""
        self.taken_back += 1
        self.task.cancel()

    def is_only_taken_back(self) -> bool:
        """Whether its task was cancelled by nobody else; the task goes on as if it were not."""
        for _ in range(self.taken_back):
            self.task.uncancel()
        return self.taken_back > 0 and not self.task.cancelling()


class Keeping:
    """Says for all chunks in hand that they are: to the broker, and to the owners of those granted."""

    def __init__(self, owners: Owners, ack_wait_s: float = ACK_WAIT_S) -> None:
        self._owners = owners
        self._say_every_s = ack_wait_s / 3
        self._look_s = self._say_every_s / 4
        self._held: set[Held] = set()
        self._closing = False
        self._some = asyncio.Event()
        """Set while something is in hand, or was a moment ago."""

    @asynccontextmanager
    async def keeping(self, chunk: Chunk, work: Work) -> AsyncIterator[Held]:
        """Keep a chunk while the context is open, which is to be the whole of what its task does.

        Raises `Postpone` once the chunk is handed back: it goes to another thinker at once.
        """
        if self._closing:
            raise _stopping()
        task = asyncio.current_task()
        assert task is not None
        held = Held(chunk, work, task, asyncio.get_running_loop().time())
        self._held.add(held)
        self._some.set()
        try:
            yield held
        except asyncio.CancelledError:
            if held.is_only_taken_back():
                raise _stopping() from None
            raise
        finally:
            self._held.discard(held)

    async def hand_back(self) -> None:
        """Give up what is in hand, and whatever comes; return once nothing is in hand any more.

        A library's `wait_for` may swallow a cancellation (Python 3.11), so it is said again and again.
        """
        self._closing = True
        while self._held:
            tasks = [held.task for held in self._held]
            for held in list(self._held):
                held.take_back()
            await asyncio.wait(tasks, timeout=_AGAIN_S)

    async def run(self) -> None:
        """Say it three times for each chunk while the broker would wait once, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            if not self._held:
                self._some.clear()
                await self._some.wait()
            await asyncio.sleep(self._look_s)
            for held in list(self._held):
                if held in self._held and clock() - held.said_at >= self._say_every_s - self._look_s:
                    held.said_at = clock()
                    await held.work.in_progress()
                    if held.granted:
                        await self._owners.still_thinking(held.chunk)


def _stopping() -> Postpone:
    return Postpone("this thinker is stopping", after=0.0)
