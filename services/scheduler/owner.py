"""The owner of one shard: the only process whose appends to the shard's journal are accepted.

Taking over: checkpoint, fold the rest of the journal, append a claim under the expected sequence (the fence),
adopt what lies in the work queue. From then on one append is outstanding at a time; what arrives meanwhile
goes into the next. Who is overtaken folds what it missed and judges its thoughts again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from msgspec import structs

from libs.bus.connection import Bus
from libs.bus.errors import BusError, NoAnswer, TooLarge
from libs.cognition.compose import compose, failed
from libs.contracts import subjects
from libs.contracts.journal import ShardRecord, ThoughtEntry
from libs.contracts.limits import JOURNAL_DEPTH, RECORD_BYTES
from libs.contracts.work import Settled, Ticket
from libs.journal.position import PublicPosition
from libs.journal.tail import JournalFull, JournalHole, Overtaken, Tail
from services.scheduler.checkpoint import CheckpointFenced, Checkpoints
from services.scheduler.dispatches import Age, Dispatches
from services.scheduler.doubts import Doubts
from services.scheduler.ledger import Ledger
from services.scheduler.notes import Note, first, in_record, keep_of_living, refuse, resolve
from services.scheduler.submissions import Halt, Submission, admitted
from services.scheduler.weights import TOO_LARGE, fits, weigh

log = structlog.get_logger("owner")

_encode = msgspec.json.Encoder().encode
_CHECKPOINT_AFTER = JOURNAL_DEPTH // 4
_ROOM_WAIT_S = 0.5
_AT_ONCE: AbstractAsyncContextManager[Any] = nullcontext()


class Fenced(BusError):
    """Another process has taken the shard over."""

    def __init__(self, shard: int, by: str) -> None:
        super().__init__(f"shard {shard} was taken over by {by or 'another owner'}")
        self.shard = shard


class ShardOwner:
    """Commits a shard's thoughts. `run` returns only by an error, `Fenced` above all."""

    def __init__(
        self,
        bus: Bus,
        shard: int,
        boot: str,
        position: PublicPosition,
        is_reaped: Callable[[str], bool],
        on_stored: Callable[[list[ThoughtEntry], list[Age]], None],
        on_settled: Callable[[], None] = lambda: None,
        running: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`on_settled` is told that messages of the INBOX stream wait to be deleted.

        `running` is `RunningTime.seconds`.
        """
        self.shard = shard
        self.ledger = Ledger(shard, running=running)
        self.dispatches = Dispatches()
        self._bus = bus
        self._boot = boot
        self._position = position
        self._is_reaped = is_reaped
        self._on_stored = on_stored
        self._on_settled = on_settled
        self._tail = Tail(bus, subjects.journal(shard), self._fold, numbered=False)
        self._checkpoints = Checkpoints(bus, shard)
        self._since_checkpoint = 0
        self._own: tuple[bytes, ShardRecord] = (b"", ShardRecord())
        """The record that was made last, and its bytes."""

        self._waiting: list[Submission] = []
        self._notes: list[Note] = []
        self._halts: list[Halt] = []
        self._doubts = Doubts()
        self._wake = asyncio.Event()
        self._tidy_wanted = False
        self._behind = False
        self._closing = False
        self._ended = False
        self._owned = False

    async def take_over(self, slot: AbstractAsyncContextManager[Any] = _AT_ONCE) -> None:
        """Become the owner. Raises `BusError` where another process did so meanwhile, or is to.

        That is done in `slot`, but for waiting until the journal has room.
        """
        try:
            async with slot:
                await self._checkpoints.load(self.ledger)
                await self._tail.catch_up()
            while self.ledger.claimed_by != self._boot:
                await self._until_room()
                async with slot:
                    await self._claim()
        except (JournalHole, CheckpointFenced) as error:  # a living owner stored a checkpoint while we read
            raise Fenced(self.shard, self.ledger.claimed_by) from error
        self._owned = True
        async with slot:  # refused where the checkpoint that we began from was not the last one
            await self._checkpoints.store(self.ledger, self._tail.sequence)
        self._since_checkpoint = 0

    async def _claim(self) -> None:
        await self._checkpoints.confirm()  # so all that it does not hold was read from the journal
        try:
            with suppress(Overtaken):
                await self._tail.append(self._record(claim=True))
        except JournalFull:
            await self._make_room()

    def wants(self, item: Ticket) -> bool:
        """Whether a dispatched thought is still to be thought: the next one of a living persona."""
        entry = self.ledger.persona(item.persona_id)
        return item.thought_count == entry.count + 1 and not self._has_ended(item.persona_id)

    def is_halted(self, run: int) -> bool:
        """Whether no thought of a run can be stored any more."""
        return self.ledger.halted >= run

    async def submit(self, thoughts: list[ThoughtEntry]) -> Settled:
        """Store thoughts, those that are still wanted, and return once each is stored or stale.

        Raises `Fenced` where this process gives the shard up.
        """
        if self._closing or self._ended:
            raise Fenced(self.shard, "its next owner")
        future: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        self._waiting.append(Submission([self._bounded(thought) for thought in thoughts], future))
        self._wake.set()
        return await future

    async def note(self, note: Note) -> None:
        """Store what stands beside thoughts, and return once it is.

        Of one note's size at most a record's may be. Raises `Fenced` where this process gives the shard up.
        """
        await self.begin(note)

    def begin(self, note: Note) -> asyncio.Future[None]:
        """Have a note stored, whoever waits for that: the future ends as `note` does."""
        note.stored = asyncio.get_running_loop().create_future()
        note.stored.add_done_callback(lambda stored: stored.cancelled() or stored.exception())
        self.say(note)
        return note.stored

    def say(self, note: Note) -> None:
        """Store what stands beside thoughts, some time; it is lost where this process gives the shard up."""
        if self._closing or self._ended:
            return refuse([note], Fenced(self.shard, "its next owner"))
        self._notes.append(note)
        return self._wake.set()

    def _bounded(self, thought: ThoughtEntry) -> ThoughtEntry:
        """Return the thought, or its declared fallback where it is larger than a thought may be."""
        if fits(thought):
            return thought
        due = self.dispatches.due(thought.persona_id)
        if due is None:
            return structs.replace(thought, thought_count=0)  # of nothing that we know: stale, as any other
        return compose(due.tried(), thought.run, failed(TOO_LARGE), datetime.now(UTC))

    async def halt(self, run: int) -> None:
        """Refuse thoughts of a run from here on. Raises `Fenced` where this process gives the shard up."""
        if self._ended:
            raise Fenced(self.shard, self.ledger.claimed_by)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._halts.append(Halt(run, future))
        self._wake.set()
        await future

    def confirm(self) -> asyncio.Future[None]:
        """Ask the journal, room or none: the future ends well if the shard is still ours, or by `Fenced`."""
        doubt = self._doubts.ask()
        if self._ended:
            self._doubts.refuse(Fenced(self.shard, self.ledger.claimed_by))
        self._wake.set()
        return doubt

    def is_tidy(self, held: int) -> bool:
        """Whether `tidy` would find nothing to do."""
        settled = min(self._checkpoints.sequence, self._position.sequence)
        due = self._since_checkpoint or self._checkpoints.is_behind(self.ledger)
        return held == self._tail.held and not (due or self._tail.removable(settled))

    def tidy(self, held: int) -> None:
        """Store a checkpoint and trim the journal soon, if there is anything to.

        `held` says how many records the journal holds: others than we know of are markers to be folded.
        """
        self._tidy_wanted = True
        self._behind = held != self._tail.held
        self._wake.set()

    def close(self) -> None:
        """Let `run` return once everything submitted is stored, with a last checkpoint; wait for no room."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Commit what comes until closed."""
        try:
            while True:
                self._wake.clear()
                while self._waiting or self._notes:
                    batch, self._waiting = self._waiting, []
                    notes, self._notes = self._notes, []
                    await self._commit(batch, notes)
                while self._halts:
                    await self._append_halt(self._halts.pop(0))
                if self._doubts:
                    await self._look()
                if self._tidy_wanted or self._closing:
                    await self._tidy()
                if self._closing and not self._waiting and not self._notes:
                    return
                await self._wake.wait()
        except JournalHole as error:  # the next owner has stored a checkpoint, and trimmed what we lack
            raise Fenced(self.shard, self.ledger.claimed_by) from error
        finally:
            self._give_up()

    def _give_up(self) -> None:
        self._ended = True
        self.dispatches.hand_over()
        for submission in self._waiting:
            self._refuse(submission.settled)
        for halt in self._halts:
            self._refuse(halt.done)
        fenced = Fenced(self.shard, self.ledger.claimed_by)
        refuse(self._notes, fenced)
        self._doubts.refuse(fenced)

    def _refuse(self, future: asyncio.Future[Any]) -> None:
        if not future.done():
            future.set_exception(Fenced(self.shard, self.ledger.claimed_by))

    def _fold(self, sequence: int, data: bytes) -> None:
        made, record = self._own
        if data is made:
            self.ledger.apply(sequence, record)  # what we have just appended need not be read
        else:
            record = self.ledger.fold(sequence, data)
        self._since_checkpoint += 1
        if record.thoughts and self._owned:
            now = asyncio.get_running_loop().time()
            self._on_stored(record.thoughts, self.dispatches.ages(record.thoughts, now))
        self.dispatches.forget(t.persona_id for t in record.thoughts)
        self.dispatches.forget(record.reap)
        if self.ledger.settled:
            self._on_settled()
        if record.number is not None:
            self._owned = self._owned and record.owner == self._boot

    async def _commit(self, batch: list[Submission], notes: list[Note]) -> None:
        stored: set[tuple[str, int]] = set()
        try:
            if any(self._is_ahead(thought) for waiting in batch for thought in waiting.thoughts):
                await self._tail.catch_up()
                self._raise_if_fenced()
            while (wanted := admitted(batch, self._admits)) or notes:
                room = RECORD_BYTES - sum(weigh(thought) for thought in wanted)
                said = first(notes, room) or (notes[:1] if not wanted else [])
                keep_of_living(said, self._has_ended)
                if not await self._append_thoughts(wanted, said):
                    continue
                stored.update((thought.persona_id, thought.thought_count) for thought in wanted)
                del notes[: len(said)]
                resolve(said)
        except BaseException:
            for submission in batch:
                self._refuse(submission.settled)
            refuse(notes, Fenced(self.shard, self.ledger.claimed_by))
            raise
        for submission in batch:
            submission.settle(stored)

    def _is_ahead(self, thought: ThoughtEntry) -> bool:
        return thought.thought_count > self.ledger.persona(thought.persona_id).count + 1

    def _has_ended(self, persona_id: str) -> bool:
        return persona_id in self.ledger.reaped or self._is_reaped(persona_id)

    def _admits(self, thought: ThoughtEntry) -> bool:
        return self.ledger.admits(thought) and not self._is_reaped(thought.persona_id)

    async def _append_thoughts(self, thoughts: list[ThoughtEntry], notes: list[Note]) -> bool:
        """Append; false where they are to be judged again."""
        await self._until_room()
        try:
            await self._append(self._record(thoughts=thoughts, notes=notes))
        except Overtaken:
            return False
        return True

    async def _append_halt(self, halt: Halt) -> None:
        try:
            while self.ledger.halted < halt.run:
                await self._until_room()
                try:
                    await self._append(self._record(halt=halt.run))
                except Overtaken:
                    continue
        except BaseException:
            self._refuse(halt.done)
            raise
        if not halt.done.done():
            halt.done.set_result(None)

    async def _append(self, data: bytes) -> None:
        """Append one record; `Overtaken` leaves the ledger current, `Fenced` ends the ownership."""
        try:
            await self._tail.append(data)
        except JournalFull:
            await self._make_room()
            raise Overtaken("the journal was full") from None
        except Overtaken:
            self._raise_if_fenced()
            raise
        self._raise_if_fenced()
        if self._since_checkpoint >= _CHECKPOINT_AFTER:
            await self._tidy()

    def _raise_if_fenced(self) -> None:
        if not self._owned:
            raise Fenced(self.shard, self.ledger.claimed_by)

    def _record(
        self,
        *,
        thoughts: list[ThoughtEntry] | None = None,
        notes: Sequence[Note] = (),
        halt: int | None = None,
        claim: bool = False,
    ) -> bytes:
        number, thoughts = self.ledger.number + 1, thoughts or []
        said = in_record(notes) if notes else ShardRecord(claim=claim, halt=halt)
        traces = self.dispatches.traces(thoughts)
        record = structs.replace(said, number=number, owner=self._boot, thoughts=thoughts, traces=traces)
        self._own = (_encode(record), record)
        return self._own[0]

    async def _until_room(self) -> None:
        while not self._tail.has_room:
            if self._closing and not self._owned:
                raise Fenced(self.shard, "its next owner")
            await self._make_room()

    async def _make_room(self) -> None:
        """Trim; where nothing can go yet, wait until the publisher has gone further."""
        held = self._tail.held
        await self._tidy()
        if self._tail.held < held:
            return
        try:
            async with asyncio.timeout(_ROOM_WAIT_S):
                await self._position.reached(max(self._tail.first_held, self._position.sequence + 1))
        except TimeoutError:
            log.warning("journal_full", shard=self.shard, cause="nothing publishes it: is a compressor up?")

    async def _tidy(self) -> None:
        self._tidy_wanted = False
        if self._behind or self._doubts:  # where there is no room, this is how doubts end
            await self._look()
        if self._since_checkpoint or self._checkpoints.is_behind(self.ledger, 0.0 if self._closing else None):
            await self._checkpoint()
        await self._tail.trim(min(self._checkpoints.sequence, self._position.sequence))

    async def _look(self) -> None:
        """Fold what others have appended. Raises `Fenced`."""
        self._behind = False
        await self._doubts.end(self._read_on)

    async def _read_on(self) -> None:
        await self._tail.sync()
        self._raise_if_fenced()

    async def _checkpoint(self) -> None:
        try:
            await self._checkpoints.store(self.ledger, self._tail.sequence)
        except (NoAnswer, TooLarge) as error:
            log.warning("checkpoint_not_stored", shard=self.shard, error=str(error))
        except CheckpointFenced as error:
            await self._tail.catch_up()
            raise Fenced(self.shard, self.ledger.claimed_by) from error
        else:
            self._since_checkpoint = 0
