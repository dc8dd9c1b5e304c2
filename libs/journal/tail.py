"""The end of one journal subject, as this process knows it.

A record is appended only if the subject's last message is the one this process has folded last. So a
writer that has been overtaken, whatever it believes of clocks or leases, stores nothing; it folds what it
missed and decides again. docs/decisions/0001-journal.md tells why nothing weaker will do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from libs.bus.connection import Bus
from libs.bus.errors import (
    UNREADABLE,
    ApiRefused,
    BusError,
    NoAnswer,
    OutcomeUnknown,
    SubjectFull,
    WrongLastSequence,
)
from libs.bus.patience import Patience, until_answered
from libs.bus.publisher import expecting
from libs.bus.read import Stored, last_of, next_of
from libs.contracts import streams
from libs.contracts.limits import JOURNAL_DEPTH, MARKER_ROOM

log = structlog.get_logger("journal")


class Overtaken(BusError):
    """Another record stands where ours was to go. What was missed is folded; decide again."""


class JournalFull(BusError):
    """The subject holds as many records as it may until it is trimmed."""


class JournalRewound(BusError):
    """The journal ends before a record that this process has folded."""

    def __init__(self, subject: str, known: int, actual: int) -> None:
        super().__init__(
            f"{subject} ends at {actual}, but {known} was read from it: the broker lost its tail; "
            "this process starts anew from what the broker holds"
        )


class JournalHole(BusError):
    """A record is missing between two that were read."""

    def __init__(self, subject: str, expected: int, found: int) -> None:
        super().__init__(f"{subject}: record {expected} is missing, {found} follows; start anew")


class Tail:
    """Appends to one journal subject and folds every record of it exactly once, in order.

    `fold(sequence, data)` is called for records of others and for our own alike. One append may be
    outstanding at a time; that is up to the caller. While the broker is away, every call waits for it.

    Where not every record is `numbered`, what is missing between two that were read shows by the one that was
    folded last: while it is still there, nothing behind it was trimmed. Else reading raises `JournalHole`.
    """

    def __init__(
        self, bus: Bus, subject: str, fold: Callable[[int, bytes], None], *, numbered: bool = True
    ) -> None:
        self.subject = subject
        self.sequence = 0
        """Journal sequence of the last record folded; 0 before the first."""

        self._bus = bus
        self._fold = fold
        self._numbered = numbered
        self._held: deque[int] = deque(maxlen=JOURNAL_DEPTH)

    @property
    def has_room(self) -> bool:
        """Whether an owner may append: the last places are left to the registry's markers."""
        return len(self._held) < JOURNAL_DEPTH - MARKER_ROOM

    @property
    def first_held(self) -> int:
        """Journal sequence of the oldest record that the subject holds; 0 where it holds none."""
        return self._held[0] if self._held else 0

    @property
    def held(self) -> int:
        """How many records the subject holds, as far as this process knows."""
        return len(self._held)

    def behind(self, newest: int) -> int:
        """Journal sequence of the last record before the newest so many; 0 where there are no more."""
        return self._held[-newest - 1] if len(self._held) > newest else 0

    def offer(self, sequence: int, data: bytes) -> bool:
        """Fold a record unless it is folded already; whether it was new.

        What is no record is passed over: whoever put it there, it was none of the subject's writers, as the
        numbers of their records show. The compressor keeps a copy of it as a dead letter.
        """
        if sequence <= self.sequence:
            return False
        try:
            self._fold(sequence, data)
        except UNREADABLE as error:
            log.error("not_a_record", subject=self.subject, sequence=sequence, error=str(error))
        self.sequence = sequence
        self._held.append(sequence)
        return True

    async def catch_up(self) -> int:
        """Fold what the subject's leader holds after the last record folded; return how many that were."""
        last, count = self.sequence, 0
        while (found := await self._next(self.sequence)) is not None:
            count += self.offer(found.sequence, found.data)
        if count and last and not self._numbered:
            await self._check_whole(last)
        return count

    async def peek(self) -> list[Stored]:
        """Return what the subject's leader holds after the last record folded, without folding it."""
        found: list[Stored] = []
        at = self.sequence
        while (record := await self._next(at)) is not None:
            found.append(record)
            at = record.sequence
        return found

    async def sync(self) -> bool:
        """Fold what is missing; whether anything was. A read after it sees every append before it."""
        last = await self._last()
        if last is None or last.sequence <= self.sequence:
            return False
        return await self.catch_up() > 0

    async def append(self, data: bytes) -> int:
        """Append one record, which nobody else could have written, and return its journal sequence.

        An append whose outcome is unknown is repeated under the same expected sequence, whatever others fold
        meanwhile: should the first one be stored, the second is refused, and the first is found. Raises
        `Overtaken`, `JournalFull` or `JournalRewound`.
        """
        with Patience(self._bus, f"appending to {self.subject}") as patience:
            return await self._append(data, self.sequence, patience)

    async def _append(self, data: bytes, expected: int, patience: Patience) -> int:
        repeated = False
        while True:
            try:
                sequence = await self._bus.publish(self.subject, data, expecting(expected))
            except OutcomeUnknown as error:
                repeated = True
                await patience.pause(error)
            except (SubjectFull, WrongLastSequence) as error:
                if isinstance(error, WrongLastSequence):
                    await self._check_not_rewound(error, expected)
                own = await self._next(expected) if repeated else None
                if own is not None and own.data == data:
                    await self.catch_up()
                    return own.sequence
                if isinstance(error, SubjectFull):
                    raise JournalFull(str(error)) from error
                await self.catch_up()
                raise Overtaken(str(error)) from error
            else:
                self.offer(sequence, data)
                return sequence

    def removable(self, through: int) -> int:
        """How many records up to a journal sequence `trim` would remove."""
        keep = self._first_kept(through)
        return sum(1 for sequence in self._held if sequence < keep)

    async def trim(self, through: int) -> int:
        """Remove records up to a journal sequence, except the last one; return how many went.

        The last record stays for ever: expected sequences compare with what is stored.
        """
        keep = self._first_kept(through)
        removable = self.removable(through)
        if not removable:
            return 0
        try:
            await self._bus.api(f"STREAM.PURGE.{streams.JOURNAL}", {"filter": self.subject, "seq": keep})
        except (NoAnswer, ApiRefused) as error:  # a full disk, too: there will be another time
            log.warning("not_trimmed", subject=self.subject, error=str(error))
            return 0
        while self._held and self._held[0] < keep:
            self._held.popleft()
        return removable

    async def _check_whole(self, last: int) -> None:
        """Raise `JournalHole` where something may have been trimmed while it was read.

        Records are trimmed from the first on: while one is there, so is all behind it.
        """
        found = await self._next(last - 1)
        if found is None or found.sequence != last:
            raise JournalHole(self.subject, last, self.sequence)

    async def _check_not_rewound(self, refusal: WrongLastSequence, expected: int) -> None:
        actual = refusal.actual
        if actual is None:
            last = await self._last()
            actual = last.sequence if last is not None else 0
        if actual < expected:
            raise JournalRewound(self.subject, expected, actual) from refusal

    async def _last(self) -> Stored | None:
        return await self._read(lambda: last_of(self._bus, streams.JOURNAL, self.subject))

    async def _next(self, after: int) -> Stored | None:
        return await self._read(lambda: next_of(self._bus, streams.JOURNAL, self.subject, after + 1))

    async def _read(self, read: Callable[[], Awaitable[Stored | None]]) -> Stored | None:
        """Read until the broker answers: what a journal holds cannot be guessed."""
        return await until_answered(self._bus, f"reading {self.subject}", read)

    def _first_kept(self, through: int) -> int:
        later = (sequence for sequence in self._held if sequence > through)
        return next(later, self._held[-1] if self._held else 0)


async def append_marker(bus: Bus, subject: str, data: bytes) -> int:
    """Append without an expected sequence, which fences the next append of whoever owns the subject.

    A repeated marker means the same once more. Raises `JournalFull` when even the places kept for markers
    are taken, and `OutcomeUnknown` when the broker does not answer.
    """
    try:
        return await bus.publish(subject, data)
    except SubjectFull as error:
        raise JournalFull(str(error)) from error
