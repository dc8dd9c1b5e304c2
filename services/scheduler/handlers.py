"""What thinkers and gateways ask a shard's owner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import msgspec

from libs.bus.endpoints import Request
from libs.bus.loop import Postpone
from libs.contracts.accounts import AccountsRequest
from libs.contracts.journal import ThoughtEntry
from libs.contracts.limits import GRANT_BYTES
from libs.contracts.lives import InboxQuery, SpendQuery
from libs.contracts.work import (
    CountersQuery,
    CountersReply,
    Grant,
    GrantRequest,
    Results,
    Settled,
    StillThinking,
    WorkItem,
)
from services.scheduler.bank import Bank
from services.scheduler.dispatches import Dispatch
from services.scheduler.due import Due, traces_of
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import Fenced, ShardOwner
from services.scheduler.rolling_up import RollingUp
from services.scheduler.showing import Showing
from services.scheduler.soon import ANSWERED_WITHIN_S, NotYet

_encode = msgspec.json.Encoder().encode


class Handlers:
    """The endpoints of one shard."""

    def __init__(
        self,
        owner: ShardOwner,
        run_now: Callable[[], int | None],
        suspected: Callable[[ShardOwner, Dispatch], Awaitable[None]],
        metrics: SchedulerMetrics,
        granted: Callable[[float], None],
        showing: Showing,
        bank: Bank,
        rolling_up: RollingUp,
        heard_since: Callable[[], float],
    ) -> None:
        """`heard_since` is `Earshot.since`."""
        self.rolling_up = rolling_up
        self._heard_since = heard_since
        self._granted = granted
        self._showing = showing
        self._bank = bank
        self._owner = owner
        self._suspected = suspected
        self._run_now = run_now
        self._metrics = metrics
        self._settling: set[tuple[str, str]] = set()

    async def grant(self, message: GrantRequest, _: Request) -> bytes:
        """Tell what of a chunk is still wanted.

        Nothing is of one that this process does not know. But it may be that it has been overtaken, and the
        next owner has dispatched it.
        """
        if not self._owner.dispatches.knows(message.chunk):
            await self._confirm()
        granted = self._owner.dispatches.grant(message, self._run_now(), _now(), self._heard_since())
        if granted.held_by is not None:
            raise Postpone(f"{granted.held_by} still thinks of it")
        if granted.suspect is not None:
            await self._suspected(self._owner, granted.suspect)
        if granted.waited is not None:
            self._metrics.queue_wait.observe(granted.waited, len(granted.dues))
            self._granted(granted.waited)
        traces: dict[str, str] = {}
        if self._owner.dispatches.traced:
            traces = _begun(granted.dues)
        return answer(granted.dues, reads=message.reads, traces=traces)

    async def _confirm(self) -> None:
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                await self._owner.confirm()
        except Fenced as error:
            raise Postpone(str(error)) from error
        except TimeoutError:
            raise NotYet(f"nobody knows yet whether shard {self._owner.shard} is still ours") from None

    async def thinking(self, message: StillThinking, _: Request) -> None:
        """Note that a chunk is not forgotten."""
        self._owner.dispatches.heard(message.chunk, message.thinker, _now())

    async def result(self, message: Results, _: Request) -> bytes | None:
        """Answer once every thought is stored or stale.

        A repetition of what is being settled gets no answer: the next one will find it settled.
        """
        self._owner.dispatches.heard(message.chunk, message.thinker, _now())
        key = (message.chunk, message.thoughts[0].persona_id if message.thoughts else "")
        if key in self._settling:
            return None
        self._settling.add(key)
        try:
            return _encode(await self._settle(message.thoughts))
        finally:
            self._settling.discard(key)

    async def _settle(self, thoughts: list[ThoughtEntry]) -> Settled:
        try:
            settled = await self._owner.submit(thoughts)
        except Fenced as error:
            raise Postpone(str(error)) from error
        self._metrics.stored.inc(settled.stored)
        self._metrics.stale.inc(settled.stale)
        return settled

    async def counters(self, message: CountersQuery, _: Request) -> bytes:
        """Show counters of personas."""
        return _encode(CountersReply(counters=self._showing.counters(self._owner, message.persona_ids)))

    async def held(self, message: InboxQuery, _: Request) -> bytes:
        """Show what an inbox holds."""
        return _encode(self._showing.inbox(self._owner, message, _now()))

    async def spend(self, _: SpendQuery, __: Request) -> bytes:
        """Show what the shard's personas have spent."""
        return _encode(self._showing.spend(self._owner))

    async def accounts(self, message: AccountsRequest, _: Request) -> bytes:
        """Reserve and settle credits of the shard's personas for owners of their descendants."""
        try:
            return _encode(await self._bank.answer(message))
        except Fenced as error:
            raise Postpone(str(error)) from error


def _begun(dues: dict[int, Due]) -> dict[str, str]:
    """Note that traced thoughts wait no more, and return their contexts by persona."""
    for due in dues.values():
        if due.trace is not None:
            due.trace.granted()
    return traces_of(dues.values())


def answer(dues: dict[int, Due], *, reads: bool, traces: dict[str, str] | None = None) -> bytes:
    """Return a grant of as many thoughts, by their index in the chunk, as one message takes."""
    told: list[WorkItem] = []
    room = GRANT_BYTES
    for index, due in dues.items():
        data = _encode(due.whole() if reads else due.bare)
        room -= len(data) + 1
        if told and room < 0:
            return _encode(Grant(items=told, next=index, traces=traces or {}))
        told.append(cast("WorkItem", msgspec.Raw(data)))  # in its final JSON, which only an encoder reads
    return _encode(Grant(items=told, traces=traces or {}))


def _now() -> float:
    return asyncio.get_running_loop().time()
