"""Carrying decisions out: they are appended to `j.registry` under the sequence they were decided at.

Requests that wait together share a record. Whoever was overtaken by another registry folds what that one
appended and decides again, so of two spawns that race for a last place exactly one wins.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from libs.contracts.journal import Change, JournalEvent, RegistryRecord
from libs.contracts.limits import RECORD_BYTES
from libs.contracts.refusals import Refusal, Unavailable
from libs.journal.tail import JournalFull, Overtaken, Tail
from libs.roster.state import Roster
from libs.tracing.spans import current_traceparent
from services.registry.draft import Draft
from services.registry.rules import Decision, View

_encode = msgspec.json.Encoder().encode

_SHARED_MOST = 256
_FULL_RETRY_S = 0.02
_FULL_GIVE_UP_S = 4.0

Decide = Callable[[View], Decision]


@dataclass(slots=True)
class Committed:
    """A decision and the journal sequence at which it stands (for an empty one: at which it was made)."""

    decision: Decision
    sequence: int


@dataclass(slots=True)
class _Pending:
    decide: Decide
    shared: bool
    future: asyncio.Future[Committed]
    trace: str | None
    """The context of the request, where it is traced."""


class Committer:
    """The one writer of this process to `j.registry`."""

    def __init__(self, tail: Tail, roster: Roster, boot: str) -> None:
        self._tail = tail
        self._roster = roster
        self._boot = boot
        self._waiting: deque[_Pending] = deque()
        self._wake = asyncio.Event()

    async def commit(self, decide: Decide, *, shared: bool = False) -> Committed:
        """Decide and carry out; `shared` decisions, creations only, may stand in one record with others.

        Raises the decision's refusal, or `Unavailable` when the journal stays full.
        """
        return await self.submit(decide, shared=shared)

    def submit(self, decide: Decide, *, shared: bool = False) -> asyncio.Future[Committed]:
        """Put a decision behind those submitted before, and return what `commit` returns or raises."""
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Pending(decide, shared, future, current_traceparent()))
        self._wake.set()
        return future

    async def run(self) -> None:
        """Commit what comes until cancelled."""
        while True:
            self._wake.clear()
            while self._waiting:
                await self._commit(self._next_batch())
            await self._wake.wait()

    def _next_batch(self) -> list[_Pending]:
        batch = [self._waiting.popleft()]
        while batch[0].shared and self._waiting and self._waiting[0].shared and len(batch) < _SHARED_MOST:
            batch.append(self._waiting.popleft())
        return batch

    async def _commit(self, batch: list[_Pending]) -> None:
        give_up = asyncio.get_running_loop().time() + _FULL_GIVE_UP_S
        while True:
            decided_at = self._tail.sequence
            whole, outcomes, traces = self._decide(batch)
            if not whole.changes and not whole.events:
                await self._tail.sync()
                if self._tail.sequence == decided_at:  # whoever folded meanwhile, a follower too
                    return self._resolve(batch, outcomes, decided_at)
                continue
            record = self._record(whole, traces)
            if len(record) > RECORD_BYTES and len(batch) > 1:
                middle = len(batch) // 2
                await self._commit(batch[:middle])
                batch = batch[middle:]
                continue
            try:
                return self._resolve(batch, outcomes, await self._tail.append(record))
            except Overtaken:
                continue
            except JournalFull:
                if asyncio.get_running_loop().time() > give_up:
                    return self._refuse(
                        batch, Unavailable("the registry's journal is full: is a compressor up?")
                    )
                await asyncio.sleep(_FULL_RETRY_S)

    def _decide(self, batch: list[_Pending]) -> tuple[Decision, list[Decision | Refusal], dict[int, str]]:
        draft = Draft(self._roster)
        changes: list[Change] = []
        events: list[JournalEvent] = []
        outcomes: list[Decision | Refusal] = []
        traces: dict[int, str] = {}
        for pending in batch:
            try:
                decision = pending.decide(draft)
            except Refusal as refusal:
                outcomes.append(refusal)
                continue
            if pending.shared:
                draft.add(decision)
            if pending.trace is not None:
                places = range(len(events), len(events) + len(decision.events))
                traces.update(dict.fromkeys(places, pending.trace))
            changes += decision.changes
            events += decision.events
            outcomes.append(decision)
        return Decision(changes=changes, events=events), outcomes, traces

    def _record(self, decision: Decision, traces: dict[int, str]) -> bytes:
        return _encode(
            RegistryRecord(
                number=self._roster.number + 1,
                owner=self._boot,
                changes=decision.changes,
                events=decision.events,
                event_traces=traces,
            )
        )

    def _resolve(self, batch: list[_Pending], outcomes: list[Decision | Refusal], sequence: int) -> None:
        for pending, outcome in zip(batch, outcomes, strict=True):
            if pending.future.done():
                continue
            if isinstance(outcome, Refusal):
                pending.future.set_exception(outcome)
            else:
                pending.future.set_result(Committed(outcome, sequence))

    def _refuse(self, batch: list[_Pending], refusal: Refusal) -> None:
        for pending in batch:
            if not pending.future.done():
                pending.future.set_exception(refusal)
