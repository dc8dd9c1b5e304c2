"""Which shards this process owns: taking over what falls to it, giving up what falls to another."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from libs.bus.connection import Bus
from libs.bus.errors import ApiRefused, NoAnswer, TooLarge
from libs.bus.patience import until_answered
from libs.bus.presence import Peers, chosen
from libs.bus.read import subject_counts
from libs.cognition.context import Recent, restored
from libs.concurrency.tasks import Background, Tasks
from libs.concurrency.waiting import BackOff, set_within
from libs.contracts import streams, subjects
from libs.contracts.limits import SHARDS
from libs.contracts.place import Place
from libs.contracts.tokens import shard_of
from libs.contracts.work import ContextLine
from services.scheduler.checkpoint import CheckpointFenced, CheckpointUnreadable
from services.scheduler.history import History
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.owner import Fenced, ShardOwner

log = structlog.get_logger("shards")

_LOOK_MOST_S = 5.0
_TIDY_S = 5.0
_TAKEN_AT_ONCE = 16
_BACK_OFF_S = (1.0, 2.5)
"""Before a lost shard is looked at again: anywhere in between, so that two that want it do not meet again."""

_BACK_OFF_MOST_S = 16.0
_SETTLED_S = 20.0
"""A shard that was ours for so many seconds was taken over well."""

_UNREADABLE_S = 30.0
"""Until a checkpoint that could not be read is looked at again; somebody has to restore it first."""

_Retriable = (Fenced, CheckpointFenced, CheckpointUnreadable, NoAnswer, TooLarge, ApiRefused)


class Shards:
    """Keeps this process the owner of the shards that fall to it.

    A shard falls to the living scheduler that rendezvous hashing names. Two processes may disagree on that
    for a moment; the journal's fence decides between them, and the loser waits before it looks again.
    """

    def __init__(
        self,
        bus: Bus,
        peers: Peers,
        instance: str,
        make_owner: Callable[[int], ShardOwner],
        read_history: Callable[[], AbstractAsyncContextManager[History]],
        serve: Callable[[ShardOwner], AbstractAsyncContextManager[None]],
        metrics: SchedulerMetrics,
    ) -> None:
        self.live: dict[int, ShardOwner] = {}
        """Owners whose shard is taken over."""

        self.shared = Recent()
        """Recent events without a persona, which every persona's context holds."""

        self.complete = asyncio.Event()
        """Set while every shard that falls to this process is taken over, or cannot be by anybody."""

        self.unreadable: dict[int, str] = {}
        """Shards that fall to this process and whose checkpoint cannot be read: what is wrong with it."""

        self.wanted: set[int] = set()
        """Shards that fall to this process, as of its last look."""

        self.looked = asyncio.Event()
        """Set after each look: `complete`, `live` and `unreadable` may be others than before."""

        self._bus = bus
        self._peers = peers
        self._instance = instance
        self._make_owner = make_owner
        self._read_history = read_history
        self._serve = serve
        self._metrics = metrics
        self._loading: dict[int, ShardOwner] = {}
        self._releases: dict[int, asyncio.Event] = {}
        self._not_before: dict[int, float] = {}
        self._lost_again: dict[int, BackOff] = {}
        """How much longer to wait for a shard that is lost again and again, as a factor."""

        self._slots = asyncio.Semaphore(_TAKEN_AT_ONCE)
        self._closing = False

    def remember(self, place: Place, line: ContextLine) -> None:
        """Add an event without a persona to everybody's context."""
        self.shared.add(place, line)

    def owner_of(self, persona_id: str) -> ShardOwner | None:
        """Return the owner of a persona's shard, also while it is still taking over."""
        shard = shard_of(persona_id)
        return self.live.get(shard) or self._loading.get(shard)

    async def run(self) -> None:
        """Take over and give up shards until closed, then give up all."""
        async with Tasks() as tasks:
            while not self._closing:
                await self._look(tasks)
                self.looked.set()
                await set_within(self._peers.changed, self._pause())
                self._peers.changed.clear()
            self._release(self._releases)

    def close(self) -> None:
        """Let `run` return once every shard is given up, its checkpoint stored."""
        self._closing = True
        self._peers.changed.set()

    async def keep_tidy(self, answered: Callable[[], None] = lambda: None) -> None:
        """Have checkpoints stored and journals trimmed every few seconds, also where little happens.

        `answered` is told each time that the broker has answered.
        One shard after the other: a checkpoint takes milliseconds to encode, and all of them would hold up
        everything else for as long as they take together.
        """
        clock, begun = asyncio.get_running_loop().time, float("-inf")
        while True:
            await asyncio.sleep(max(begun + _TIDY_S - clock(), _TIDY_S / 2))
            begun = clock()
            try:
                held = await until_answered(
                    self._bus,
                    "reading how full the journal is",
                    lambda: subject_counts(self._bus, streams.JOURNAL, subjects.JOURNAL),
                )
            except ApiRefused as error:
                log.warning("not_tidied", error=str(error))
                continue
            answered()
            for owner in list(self.live.values()):
                records = held.get(subjects.journal(owner.shard), 0)
                if not owner.is_tidy(records):
                    owner.tidy(records)
                    await asyncio.sleep(_TIDY_S / 2 / SHARDS)

    def _pause(self) -> float:
        """Return for how many seconds nothing changes unless we are told.

        That is until a scheduler that falls silent counts as gone, or a lost shard may be looked at again.
        """
        now = asyncio.get_running_loop().time()
        again = [at for shard, at in self._not_before.items() if at > now and shard in self.wanted]
        return max(min(self._peers.first_gone_at(), *again, now + _LOOK_MOST_S) - now, 0.0)

    def _look_again(self) -> None:
        """Look at once: a shard was taken over, or given up."""
        self._peers.changed.set()

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        self.wanted = wanted = self._wanted()
        self._release(shard for shard in self._releases if shard not in wanted)
        now = asyncio.get_running_loop().time()
        new = [s for s in wanted if s not in self._releases and self._not_before.get(s, 0) <= now]
        if new:
            await self._take_over(new, tasks)
        self.unreadable = {shard: why for shard, why in self.unreadable.items() if shard in wanted}
        self._note_complete(wanted)

    def _release(self, shards: Iterable[int]) -> None:
        """Give shards up, and those that are being taken over where that has to wait."""
        for shard in shards:
            self._releases[shard].set()
            if (owner := self._loading.get(shard)) is not None:
                owner.close()

    def _wanted(self) -> set[int]:
        there = {r.instance for r in self._peers.living() if not r.leaving} | {self._instance}
        return {shard for shard in range(SHARDS) if chosen(there, f"shard-{shard}") == self._instance}

    def _note_complete(self, wanted: set[int]) -> None:
        if wanted <= self.live.keys() | self.unreadable.keys():
            self.complete.set()
        else:
            self.complete.clear()

    async def _take_over(self, shards: list[int], tasks: asyncio.TaskGroup) -> None:
        for shard in shards:
            self._loading[shard] = self._make_owner(shard)
            self._releases[shard] = asyncio.Event()
        try:
            async with self._read_history() as history:
                self._install(history, shards)
        except (NoAnswer, ApiRefused) as error:
            log.warning("history_not_read", error=str(error))
            for shard in shards:
                self._wait(shard)
                self._forget(shard)
            return
        for shard in shards:
            tasks.create_task(self._own(shard), name=f"shard-{shard}")

    def _install(self, history: History, shards: list[int]) -> None:
        """Give owners the context that the event stream holds, beside what came since they began to load."""
        self.shared = restored(history.shared, self.shared, history.public)
        by_shard: dict[int, dict[str, Recent]] = {shard: {} for shard in shards}
        for persona_id, events in history.own.items():
            if (found := by_shard.get(shard_of(persona_id))) is not None:
                found[persona_id] = events
        for shard in shards:
            self._loading[shard].ledger.install(by_shard[shard], history.public)

    async def _own(self, shard: int) -> None:
        """Own a shard until it is released or lost."""
        owner = self._loading[shard]
        release = self._releases[shard]
        try:
            await owner.take_over(self._slots)
            self._metrics.takeovers.inc()
            taken_at = asyncio.get_running_loop().time()
            try:
                await self._serve_until(release, owner)
            finally:
                if asyncio.get_running_loop().time() - taken_at > _SETTLED_S:
                    self._lost_again.pop(shard, None)
        except _Retriable as error:
            self._lost(shard, error)
        except ExceptionGroup as group:
            lost, rest = group.split(_Retriable)
            if rest is not None:
                raise rest from None
            self._lost(shard, lost.exceptions[0] if lost is not None else group)
        finally:
            self._forget(shard)

    async def _serve_until(self, release: asyncio.Event, owner: ShardOwner) -> None:
        async with Background() as tasks:
            running = tasks.create_task(owner.run(), name=f"commit-{owner.shard}")
            async with self._entered(owner), self._serve(owner):
                await release.wait()
            owner.close()
            await asyncio.wait([running])

    @asynccontextmanager
    async def _entered(self, owner: ShardOwner) -> AsyncIterator[None]:
        self.live[owner.shard] = owner
        self.unreadable.pop(owner.shard, None)
        self._loading.pop(owner.shard, None)
        self._metrics.shards.set(len(self.live))
        self._look_again()
        try:
            yield
        finally:
            self.live.pop(owner.shard, None)
            self._metrics.shards.set(len(self.live))
            self._look_again()

    def _lost(self, shard: int, error: BaseException) -> None:
        log.warning("shard_lost", shard=shard, error=str(error))
        self._metrics.fenced.inc()
        self._wait(shard)
        if isinstance(error, CheckpointUnreadable):
            self.unreadable[shard] = str(error)
            self._not_before[shard] = asyncio.get_running_loop().time() + _UNREADABLE_S

    def _wait(self, shard: int) -> None:
        """Leave a shard alone for a while, each time for longer."""
        longer = self._lost_again.setdefault(shard, BackOff(1.0, _BACK_OFF_MOST_S / _BACK_OFF_S[1]))
        pause = random.uniform(*_BACK_OFF_S) * longer.next()
        self._not_before[shard] = asyncio.get_running_loop().time() + pause

    def _forget(self, shard: int) -> None:
        self._loading.pop(shard, None)
        self._releases.pop(shard, None)
        self._look_again()
