"""Starting and stopping the loop: running(R), stopping(R), stopped(R), running(R+1) [4.1, 4.2]."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from libs.bus.connection import Bus
from libs.bus.endpoints import Request
from libs.bus.errors import BusError
from libs.bus.schedulers import ask_schedulers
from libs.contracts import subjects
from libs.contracts.control import StartCognitionRequest
from libs.contracts.journal import Halted, ShardRecord
from libs.contracts.limits import SHARDS, STOP_GRACE_MS
from libs.contracts.refusals import Unavailable
from libs.contracts.registry import LoopPhase, LoopState
from libs.journal.position import PublicPosition
from libs.journal.tail import JournalFull, append_marker
from libs.roster.state import Roster
from services.registry.committer import Committer
from services.registry.rules import Rules

log = structlog.get_logger("running")

_TAKEN_UP_WITHIN_S = 5.0
_ASK_AGAIN_S = 0.05
_OWNERS_WITHIN_S = STOP_GRACE_MS / 1000 + 1.0
_ANNOUNCED_WITHIN_S = 5.0
_LOOK_S = 2.0
_RETRY_S = 0.5


class Runner:
    """Takes the loop from one state to the next, one request at a time."""

    def __init__(
        self,
        bus: Bus,
        committer: Committer,
        roster: Roster,
        rules: Rules,
        position: PublicPosition,
        in_charge: Callable[[], bool],
    ) -> None:
        self._bus = bus
        self._committer = committer
        self._roster = roster
        self._rules = rules
        self._position = position
        self._in_charge = in_charge
        self._one_at_a_time = asyncio.Lock()
        self._halted: dict[int, set[int]] = {}
        """By run, the shards that refuse its thoughts: their owners say so, or we have marked them."""

        self._halted_changed = asyncio.Event()

    @property
    def loop(self) -> LoopState:
        """The loop's desired state; before the first start, stopped."""
        return self._roster.loop or LoopState(
            run=0,
            phase=LoopPhase.STOPPED,
            interval_ms=self._rules.default_interval_ms,
            interval_chosen=False,
        )

    async def begin(self) -> None:
        """Take up the settings at boot; while the journal is full, they wait for the next one."""
        try:
            await self._committer.commit(self._rules.begin)
        except Unavailable as error:
            log.warning("settings_not_taken_up", reason=error.detail)

    async def start(self, request: StartCognitionRequest) -> LoopState:
        """Start, or change the interval; answers once a scheduler ticks. Raises refusals of [4.1]."""
        async with self._one_at_a_time:
            if self._is_stopping():
                await self._finish_stop()
            await self._committer.commit(lambda view: self._rules.start(view, request))
        await self._until_taken_up(self.loop.run)
        return self.loop

    async def _until_taken_up(self, run: int) -> None:
        try:
            async with asyncio.timeout(_TAKEN_UP_WITHIN_S):
                while not await self._is_taken_up(run):  # noqa: ASYNC110 - the event is elsewhere
                    await asyncio.sleep(_ASK_AGAIN_S)
        except TimeoutError:
            raise Unavailable(
                "the loop is to run, but no scheduler has taken it up yet; it will once one is there"
            ) from None

    async def _is_taken_up(self, run: int) -> bool:
        return any(status.ticking and status.run >= run for status in await ask_schedulers(self._bus))

    async def stop(self, reason: str | None) -> LoopState:
        """Stop; answers once no thought of the run can appear any more, and the reason is announced.

        Asked again while the first stop is not through, it finishes that one. Raises `Unavailable`.
        """
        async with self._one_at_a_time:
            if self._is_stopping() or self._end_is_not_public():
                await self._finish_stop()
                return self.loop
            done = await self._committer.commit(lambda view: self._rules.stop(view, reason))
            if self._is_stopping():  # begun by us, or by another registry meanwhile
                await self._finish_stop()
            elif done.decision.events:
                await self._until_public(done.sequence)
        return self.loop

    async def run(self) -> None:
        """Finish what another registry left stopping, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if not self._is_stopping() or not self._in_charge():
                continue
            async with self._one_at_a_time:
                try:
                    await self._finish_stop()
                except Unavailable as error:
                    log.warning("still_stopping", reason=error.detail)
                    await asyncio.sleep(_RETRY_S)

    async def halted(self, notice: Halted, _: Request) -> None:
        """Take note of an owner's word that shards are halted for a run."""
        self._halted.setdefault(notice.run, set()).update(notice.shards)
        self._halted_changed.set()

    async def _finish_stop(self) -> None:
        """Halt every shard, end the run and wait until its end is public."""
        run = self.loop.run
        if self._is_stopping():
            if await ask_schedulers(self._bus):
                await self._until_owners_halted(run)
            await self._halt_rest(run)
            await self._committer.commit(lambda view: self._rules.stopped(view, run))
            self._halted = {later: shards for later, shards in self._halted.items() if later > run}
        await self._until_public(self._roster.loop_changed_at)

    def _is_stopping(self) -> bool:
        return self.loop.phase is LoopPhase.STOPPING

    def _end_is_not_public(self) -> bool:
        stopped = self._roster.loop is not None and self.loop.phase is LoopPhase.STOPPED
        return stopped and self._roster.loop_changed_at > self._position.sequence

    async def _until_owners_halted(self, run: int) -> None:
        try:
            async with asyncio.timeout(_OWNERS_WITHIN_S):
                while len(self._halted.get(run, ())) < SHARDS:
                    self._halted_changed.clear()
                    await self._halted_changed.wait()
        except TimeoutError:
            return

    async def _halt_rest(self, run: int) -> None:
        """Halt shards whose owner is silent, each once: whatever it appends next is refused.

        One whose journal is full holds up the stop, but not the others' halt. Raises `Unavailable`.
        """
        marker = msgspec.json.encode(ShardRecord(halt=run))
        halted = self._halted.setdefault(run, set())
        missing = sorted(set(range(SHARDS)) - halted)
        if missing:
            log.info("halting_shards_without_owner", shards=len(missing), run=run)
        refusal: BusError | None = None
        for shard in missing:
            try:
                await append_marker(self._bus, subjects.journal(shard), marker)
            except JournalFull as error:
                refusal = error
            except BusError as error:
                refusal = error
                break
            else:
                halted.add(shard)
        if refusal is not None:
            raise Unavailable(
                f"the loop is stopping, but not every shard could be halted: {refusal}"
            ) from refusal

    async def _until_public(self, sequence: int) -> None:
        try:
            async with asyncio.timeout(_ANNOUNCED_WITHIN_S):
                await self._position.reached(sequence)
        except TimeoutError:
            raise Unavailable(
                "the loop is stopped, but its last events are not public yet: no compressor publishes"
            ) from None
