"""From a delivered chunk to settled thoughts: grant, think, settle, acknowledge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter

import structlog
from msgspec import Struct

from libs.bus.queue import Work
from libs.cognition.answer import Answer, failed, together
from libs.cognition.compose import compose
from libs.cognition.decision import NoDecision, parse_decision
from libs.cognition.told import NOTHING, Told
from libs.concurrency.tasks import Tasks
from libs.contracts.journal import ThoughtEntry
from libs.contracts.limits import NOVELTY_THRESHOLD
from libs.contracts.work import Chunk, WorkItem
from libs.tracing.spans import Tracer, inside
from services.thinker.backends.base import Backend
from services.thinker.budget import fit
from services.thinker.capture import Captures
from services.thinker.failures import FailureLog
from services.thinker.keeping import Held, Keeping
from services.thinker.metrics import ThinkerMetrics
from services.thinker.results import Owners
from services.thinker.room import Place, Room
from services.thinker.sizes import ChunkSizes
from services.thinker.tracing import Traced, begin_chat, begin_thoughts, end_chat

log = structlog.get_logger("thinking")

_GATHER_S = 0.002
"""How long answers that come close together wait for each other, to share a message."""

_UNTRACED: Traced = {}


class Asked(Struct, frozen=True):
    """What came of asking the backend."""

    told: Told
    answer: Answer
    wrong: str | None
    """Why the answer is not the decision that it was to be."""


class Thinking:
    """Handles chunks."""

    def __init__(
        self,
        owners: Owners,
        backend: Callable[[], Backend],
        metrics: ThinkerMetrics,
        did: Callable[[str], None],
        captures: Captures,
        tracer: Tracer | None = None,
        novelty_threshold: float = NOVELTY_THRESHOLD,
    ) -> None:
        self.room = Room(lambda: backend().capacity)
        self.sizes = ChunkSizes()
        self.keeping = Keeping(owners)
        self._owners = owners
        self._backend = backend
        self._metrics = metrics
        self._did = did
        self._captures = captures
        self._tracer = tracer
        self._novelty_threshold = novelty_threshold
        self._failures = FailureLog()

    async def handle(self, chunk: Chunk, work: Work) -> None:
        """Think what is still wanted of a chunk. Returns once all of it is settled.

        Raises `Postpone` where the process is stopping: the chunk goes to another thinker at once.
        """
        self.sizes.came(chunk)
        try:
            async with self.keeping.keeping(chunk, work) as held, self.room.place(chunk) as place:
                await self._think(held, place)
        except ExceptionGroup as group:
            raise _single(group) from None

    async def _think(self, held: Held, place: Place) -> None:
        chunk, work = held.chunk, held.work
        always = self._backend().always
        grant = await self._owners.grant(
            chunk, work.sequence, work.deliveries, reads=always is None, pause=place.until_asked_again
        )
        items = grant.items
        held.granted = True
        place.granted(len(items))
        if not items:
            return None
        spans = begin_thoughts(self._tracer, items, grant.traces)
        if always is not None:
            thoughts = self._declared(items, chunk.run, always)
            place.answered(len(thoughts))
            return await self.settle(chunk, place, thoughts, spans)
        return await _Answers(self, chunk, place, items, spans).settle_all()

    async def answer(self, item: WorkItem, run: int) -> ThoughtEntry:
        """Return an item's thought, by the model or as the declared fallback."""
        backend = self._backend()
        began = perf_counter()
        asked = await self._asked(item, backend)
        self._metrics.answered(asked.answer, perf_counter() - began)
        self._failures.note(item, asked.answer, asked.wrong)
        self._tell_of_window(item, asked.told, backend)
        now = datetime.now(UTC)
        thought = compose(item, run, asked.answer, now, asked.told, self._novelty_threshold)
        self._metrics.composed(thought)
        return thought

    async def _asked(self, item: WorkItem, backend: Backend) -> Asked:
        """Have an item answered; where its messages want a decision that is none, once more [H15]."""
        asked = await self._ask(item, backend, None)
        if asked.wrong is None:
            return asked
        self._metrics.asked_again.inc()
        again = await self._ask(item, backend, asked.wrong)
        return Asked(again.told, together(asked.answer, again.answer), again.wrong)

    async def _ask(self, item: WorkItem, backend: Backend, wrong: str | None) -> Asked:
        """Have an item answered once; `wrong` is what was wrong with the last answer."""
        began = perf_counter()
        try:
            fitted = fit(item, backend.budget, backend.count, wrong)
        except Exception as error:
            log.exception("prompt_not_made", persona=item.persona_id, thought_count=item.thought_count)
            return Asked(NOTHING, failed(f"no prompt: {type(error).__name__}: {error}"), None)
        chat = begin_chat(backend)
        try:
            with inside(chat):
                answer = await backend.answer(fitted.prompt)
        except Exception as error:
            log.exception("backend_failed", persona=item.persona_id, thought_count=item.thought_count)
            answer = failed(f"{type(error).__name__}: {error}", round((perf_counter() - began) * 1000))
        if chat is not None:
            end_chat(chat, answer)
        self._captures.take(item, fitted.prompt, backend, answer)
        return Asked(fitted.told, answer, _wrong(fitted.told, answer))

    def _declared(self, items: list[WorkItem], run: int, always: Answer) -> list[ThoughtEntry]:
        """Return the thoughts of items for which nothing thinks: what they would be asked is not made."""
        self._metrics.declared(len(items))
        now = datetime.now(UTC)
        return [compose(item, run, always, now) for item in items]

    def _tell_of_window(self, item: WorkItem, told: Told, backend: Backend) -> None:
        """Tell of what the model's window had no room for."""
        self._metrics.fitted(told)
        if backend.budget is not None and told.charter_trimmed:
            self._failures.charter_trimmed(item, told.charter_trimmed, backend.budget.window)

    async def settle(
        self, chunk: Chunk, place: Place, thoughts: list[ThoughtEntry], spans: Traced = _UNTRACED
    ) -> None:
        """Bring thoughts to their owner. With that, `spans` of theirs end."""
        began = perf_counter()
        ending = (
            [span for one in thoughts if (span := spans.get(one.persona_id)) is not None] if spans else []
        )
        settling = [span.child("settle") for span in ending]
        await self._owners.settle(chunk, thoughts, place.until_taken)
        place.settled(len(thoughts))
        for span in settling + ending:
            span.end()
        self._metrics.settle.observe(perf_counter() - began, len(thoughts))
        last = thoughts[-1]
        self._did(f"thought {last.thought_count} of {last.persona_id}")


class _Answers:
    """The answers of one chunk: each is settled as soon as it is there, together with those beside it."""

    def __init__(
        self, thinking: Thinking, chunk: Chunk, place: Place, items: list[WorkItem], spans: Traced
    ) -> None:
        self._spans = spans
        self._place = place
        self._thinking = thinking
        self._chunk = chunk
        self._items = items
        self._ready: list[ThoughtEntry] = []
        self._arrived = asyncio.Event()

    async def settle_all(self) -> None:
        """Return once every item is settled."""
        left = len(self._items)
        async with Tasks() as tasks:
            for item in self._items:
                tasks.create_task(self._answer(item), name="answer")
            while left:
                await self._arrived.wait()
                if len(self._ready) < left:
                    await asyncio.sleep(_GATHER_S)
                self._arrived.clear()
                ready, self._ready = self._ready, []
                left -= len(ready)
                await self._thinking.settle(self._chunk, self._place, ready, self._spans)

    async def _answer(self, item: WorkItem) -> None:
        with inside(self._spans.get(item.persona_id)):
            thought = await self._thinking.answer(item, self._chunk.run)
        self._place.answered()
        self._ready.append(thought)  # looked up only now: the list is exchanged while others are settled
        self._arrived.set()


def _wrong(told: Told, answer: Answer) -> str | None:
    """Return why an answer is not the decision that it was to be; None where it is, or none was asked for."""
    if not told.messages or answer.text is None or not answer.by_model:
        return None
    try:
        parse_decision(answer.text)
    except NoDecision as error:
        return str(error)
    return None


def _single(group: ExceptionGroup[Exception]) -> Exception:
    """Return what a group is about: the loop settles by the kind of one exception."""
    first: Exception = group
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    return first
