"""Forming batches of what waits: prompts of like length go together, and the oldest one always goes.

A batch computes its prefill only as far as its shortest prompt reaches, so a mixed batch wastes work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from libs.cognition.compose import Answer, failed

_DRAIN_S = 0.005


@dataclass(slots=True)
class _Waiting:
    tokens: list[str]
    future: asyncio.Future[Answer]


class Batcher:
    """Runs batches of at most `size` prompts, at most `workers` at a time."""

    def __init__(
        self, run: Callable[[Sequence[list[str]]], Awaitable[list[Answer]]], size: int, workers: int
    ) -> None:
        self._run = run
        self._size = size
        self._workers = workers
        self._waiting: list[_Waiting] = []
        self._running: set[asyncio.Task[None]] = set()

    async def answer(self, tokens: list[str]) -> Answer:
        """Return the answer of a prompt, once a batch has taken it."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(tokens, future))
        self._fill()
        return await future

    async def close(self) -> None:
        """Wait for the batches under way; what still waits is cancelled."""
        for waiting in self._waiting:
            waiting.future.cancel()
        self._waiting.clear()
        if self._running:
            await asyncio.wait(self._running)

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._workers:
            task = asyncio.create_task(self._work())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            if len(self._running) * self._size >= len(self._waiting):
                break

    async def _work(self) -> None:
        """Take batches until nothing waits."""
        await asyncio.sleep(_DRAIN_S)
        while batch := self._take():
            try:
                answers = await self._run([waiting.tokens for waiting in batch])
            except Exception as error:  # noqa: BLE001 - the error is the answer
                answers = [failed(f"{type(error).__name__}: {error}")] * len(batch)
            for waiting, answer in zip(batch, answers, strict=True):
                if not waiting.future.done():
                    waiting.future.set_result(answer)
            await asyncio.sleep(_DRAIN_S)

    def _take(self) -> list[_Waiting]:
        """Take the oldest prompt and those nearest to it in length."""
        alive = [waiting for waiting in self._waiting if not waiting.future.done()]
        if not alive:
            self._waiting.clear()
            return []
        anchor = len(alive[0].tokens)
        batch = sorted(alive, key=lambda w: abs(len(w.tokens) - anchor))[: self._size]
        taken = set(map(id, batch))
        self._waiting = [waiting for waiting in alive if id(waiting) not in taken]
        return batch
