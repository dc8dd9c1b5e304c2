"""Forming batches of what waits: prompts of like length go together, and the oldest one always goes.

A batch computes its prefill only as far as its shortest prompt reaches and feeds the rest of longer ones
token by token, so a mixed batch wastes work; where answers depend on that, lengths are not mixed at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import ceil
from time import time_ns

import structlog
from msgspec import Struct, structs

from libs.cognition.compose import Answer, failed
from libs.concurrency.tasks import tell_failure
from libs.tracing.spans import Span, current
from services.thinker.backends.devices import is_out_of_memory
from services.thinker.backends.telemetry import BatchDone, BatchFault, BatchTaken, BatchTelemetry, NoTelemetry

log = structlog.get_logger("batching")

_DRAIN_S = 0.005
"""How long a worker waits for company for what has come."""

_GROW_AFTER = 64
"""Full batches without a fault after which a limit that memory has lowered is raised by an eighth."""

_AVERAGED = 0.2

_WHOLE = 4
"""So few prompts are not shared among workers: one batch of them costs little more than each alone."""


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of a batch."""

    rows: int
    tokens: int
    """Rows times the longest row, with all that is added to a prompt; one row alone may be longer."""

    scores: int
    """Rows times the square of the longest prompt: each head of the model keeps a score for each pair of its
    tokens, all at once. One row alone may have more."""

    spread: int = 0
    """The most by which lengths of one batch may differ, in tokens."""

    added: int = 0
    """Tokens of a row beyond its prompt: the shared part before it and the answer behind it."""


@dataclass(slots=True, eq=False)
class Row:
    """A prompt that waits or is thought."""

    tokens: list[str]
    future: asyncio.Future[Answer]
    came: float
    own: int = 0
    """Tokens that its usage counts."""

    taken: bool = False
    begun: float = 0.0
    """When its batch was taken, by the loop's clock."""

    beside: int = 1
    """Rows of that batch."""

    def is_over(self) -> bool:
        """Whether nobody waits for it any longer: it is late, or who asked has gone. Any thread may ask."""
        return self.future.done()


def _tell(span: Span, row: Row, now: float) -> None:
    """Tell the trace of who asked how long a row has waited for a batch, and how long that took until now."""
    wall = time_ns()
    came = wall - round((now - row.came) * 1e9)
    taken = wall - round((now - row.begun) * 1e9) if row.taken else wall
    span.child("batch wait", begun=came).end(taken)
    if row.taken:
        span.child("inference", "internal", {"perpetua.batch.rows": row.beside}, taken).end(wall)


Run = Callable[[Sequence[Row]], Awaitable[list[Answer]]]
"""Thinks a batch. Raises where it fails as a whole."""


class Batcher:
    """Runs batches within limits, at most `workers` at a time.

    A prompt that has no answer `timeout_s` seconds after it came is answered as late, whether it waits or is
    being thought; its neighbours go on. A batch that fails is halved until what makes it fail is alone, in at
    most 2n - 1 runs for n prompts; where it failed for want of memory, further batches are smaller.
    """

    def __init__(self, run: Run, limits: Limits, workers: int, timeout_s: float) -> None:
        self.limit = limits.rows
        """Rows that a batch may have now."""

        self.telemetry: BatchTelemetry = NoTelemetry()
        self._run = run
        self._limits = limits
        self._workers = workers
        self._timeout_s = timeout_s
        self._waiting: list[Row] = []
        self._working: set[asyncio.Task[None]] = set()
        self._awake = 0
        self._unharmed = 0
        self._rows_a_second: float | None = None

    @property
    def capacity(self) -> int:
        """Prompts that may usefully be here: two rounds of full batches, or what half the timeout allows for.

        With twice as many in hand a thought is through in about half its time; without this bound a slow
        model would be given more than it can think in time, and every thought of it would be late. Half a
        round has to do until the first batch tells how fast the model is.
        """
        if self._rows_a_second is None:
            return max(self._workers, self.limit * self._workers // 2)
        most = 2 * self.limit * self._workers
        timely = ceil(self._rows_a_second * self._workers * self._timeout_s / 4)
        return max(self._workers, min(timely, most))

    async def answer(self, tokens: list[str], own: int | None = None) -> Answer:
        """Return the answer of a prompt, once a batch has brought it or its time is over.

        So many of its tokens are its `own`: all, unless it was filled up.
        """
        loop = asyncio.get_running_loop()
        row = Row(tokens, loop.create_future(), loop.time(), len(tokens) if own is None else own)
        timer = loop.call_later(self._timeout_s, self._expire, row)
        self._waiting.append(row)
        self._wake_worker()
        try:
            return await row.future
        finally:
            timer.cancel()
            if (span := current()) is not None:
                _tell(span, row, loop.time())

    async def close(self) -> None:
        """Wait for the batches under way; what still waits is cancelled."""
        for row in self._waiting:
            row.future.cancel()
        self._waiting.clear()
        if self._working:
            await asyncio.wait(self._working)

    def _expire(self, row: Row) -> None:
        if not row.future.done():
            what = "" if row.taken else ": it waited for a batch all that time"
            ms = round(self._timeout_s * 1000)
            spent = (asyncio.get_running_loop().time() - row.begun) / row.beside if row.taken else 0.0
            answer = failed(f"no answer within {ms} ms{what}", ms)
            row.future.set_result(structs.replace(answer, cpu_ms=round(spent * 1000)))

    def _wake_worker(self) -> None:
        if self._awake < self._workers:
            self._awake += 1
            worker = asyncio.create_task(self._work(), name="batches")
            self._working.add(worker)
            worker.add_done_callback(self._ended)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        """See a worker's end. One that crashed has failed its batch; what waits gets another worker."""
        self._working.discard(worker)
        if not worker.cancelled() and (error := worker.exception()) is not None:
            tell_failure(worker.get_name(), error)
            self.telemetry.fault(BatchFault("crash"))
            if self._waiting:
                self._wake_worker()

    async def _work(self) -> None:
        """Take batches until nothing waits."""
        batch: list[Row] = []
        try:
            await asyncio.sleep(_DRAIN_S)
            while batch := self._take():
                await self._think(batch)
                if len(self._waiting) < self.limit:
                    await asyncio.sleep(_DRAIN_S)
        except Exception as error:
            for row in batch:
                if not row.future.done():
                    row.future.set_result(failed(f"{type(error).__name__}: {error}"))
            raise
        finally:
            self._awake -= 1  # in the same breath as the last look at what waits

    def _take(self) -> list[Row]:
        """Take the oldest prompt and those nearest to it in length, a worker's share of what waits.

        Shares shrink towards the end (guided self-scheduling), so that workers end together.
        """
        self._waiting = alive = [row for row in self._waiting if not row.is_over()]
        if not alive:
            return []
        anchor = len(alive[0].tokens)
        near = [row for row in alive if abs(len(row.tokens) - anchor) <= self._limits.spread]
        near.sort(key=lambda row: abs(len(row.tokens) - anchor))
        share = max(_WHOLE, ceil(len(alive) / self._workers))
        batch = self._within_memory(near[: min(self.limit, share)])
        now = asyncio.get_running_loop().time()
        for row in batch:
            row.taken, row.begun, row.beside = True, now, len(batch)
        self._waiting = [row for row in alive if not row.taken]
        self.telemetry.taken(BatchTaken([now - row.came for row in batch], self.limit))
        return batch

    def _within_memory(self, rows: list[Row]) -> list[Row]:
        limits, longest = self._limits, 0
        for count, row in enumerate(rows):
            longest = max(longest, len(row.tokens))
            tokens, scores = (count + 1) * (longest + limits.added), (count + 1) * longest**2
            if count and (tokens > limits.tokens or scores > limits.scores):
                return rows[:count]
        return rows

    async def _think(self, batch: list[Row]) -> None:
        """Answer every row of a batch, in one run or, where it fails, in halves."""
        began = asyncio.get_running_loop().time()
        try:
            answers = await self._run(batch)
        except Exception as error:  # noqa: BLE001 - the error is the answer
            await self._isolate(batch, error)
            return
        seconds = asyncio.get_running_loop().time() - began
        timely = 0
        for row, answer in zip(batch, answers, strict=True):
            if not row.future.done():
                row.future.set_result(answer)
                timely += 1
        self._measure(timely, seconds)
        self._grow(len(batch))

    async def _isolate(self, batch: list[Row], error: Exception) -> None:
        memory = is_out_of_memory(error)
        self.telemetry.fault(BatchFault("memory" if memory else "error"))
        if memory:
            self._shrink(len(batch))
        if len(batch) == 1:
            if not batch[0].future.done():
                batch[0].future.set_result(failed(f"{type(error).__name__}: {error}"))
            return
        log.warning("batch_failed", rows=len(batch), error=str(error), limit=self.limit)
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            if alive := [row for row in half if not row.is_over()]:
                await self._think(alive)

    def _shrink(self, rows: int) -> None:
        """The device's memory is too small for so many rows: take half of them from now on."""
        self.limit = max(1, min(self.limit, rows // 2))
        self._unharmed = 0

    def _grow(self, rows: int) -> None:
        if self.limit == self._limits.rows or rows < self.limit:
            return
        self._unharmed += 1
        if self._unharmed >= _GROW_AFTER:
            self._unharmed = 0
            self.limit = min(self._limits.rows, self.limit + max(1, self.limit // 8))

    def _measure(self, rows: int, seconds: float) -> None:
        self.telemetry.done(BatchDone(seconds))
        rate = rows / max(seconds, 1e-6)
        known = self._rows_a_second
        self._rows_a_second = rate if known is None else known + (rate - known) * _AVERAGED
