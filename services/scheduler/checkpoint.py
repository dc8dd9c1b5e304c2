"""Checkpoints: a shard's counters in the `checkpoints` bucket, so that its journal can be trimmed.

Pages that changed are stored first, then the head. Only a stored head makes a checkpoint, so a crash between
the two leaves pages that are merely ahead of it, which folding does not mind: it skips thoughts at or below a
page's count, and what came for a persona up to its page's sequence. A persona that moves to a later page is
stored there first, and where two have it the later one counts. Each write expects the revision that this
owner wrote or found; a newer owner's is a fence.

Accounts name everybody below them who thought within two minutes: 160 bytes a persona, 16 MB for a root of
100 000 with ids of 36 characters. What the head has no room for stands in parts, of which there are two sets:
those of the stored head are left alone, and the next head's are written to the others. So none are mixed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import time
from typing import TypeVar, cast

import msgspec

from libs.bus.connection import Bus
from libs.bus.errors import UNREADABLE, BusError, NoAnswer, TooLarge, WrongLastSequence
from libs.bus.publisher import expecting
from libs.bus.read import last_of
from libs.contracts import streams, subjects
from libs.contracts.accounts import AccountsCheckpoint
from libs.contracts.journal import CheckpointHead, CheckpointPage
from libs.contracts.limits import PAGE_BYTES, RECORD_BYTES
from services.scheduler.accounts import window_of
from services.scheduler.ledger import Ledger
from services.scheduler.pages import Pages

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(CheckpointHead).decode
_decode_accounts = msgspec.json.Decoder(AccountsCheckpoint).decode
_decode_page = msgspec.json.Decoder(CheckpointPage).decode

CLOCKS_BEHIND_S = 240.0
"""A crash sets idle clocks back by so many seconds, and those few between two looks, at most [A17]."""

_ATTEMPTS = 5
_RETRY_S = 0.5


class CheckpointFenced(BusError):
    """Another owner has stored a checkpoint of this shard since we read it."""


class CheckpointUnreadable(BusError):
    """Something else than a checkpoint stands where one was stored.

    Without it nobody knows how far the shard's personas are: they wait, rather than begin again at thought 1.
    """

    def __init__(self, subject: str, error: Exception) -> None:
        super().__init__(
            f"{subject} holds no checkpoint ({error}); the shard's personas wait until the key holds again "
            "what its owner stored last: restore it from a backup of stream KV_checkpoints"
        )


class Checkpoints:
    """The stored checkpoint of one shard."""

    def __init__(self, bus: Bus, shard: int) -> None:
        self.sequence = 0
        """Journal sequence that the stored checkpoint includes; 0 while there is none."""

        self._bus = bus
        self._shard = shard
        self._ran = 0.0
        self._pages = Pages(PAGE_BYTES)
        self._side = 0
        """Which set of parts belongs to the stored head, if one does."""

        self._revisions: dict[str, int] = {}
        self._unknown: dict[str, bytes] = {}
        """By subject, what is being written, or was, so that nobody knows whether it is stored."""

    async def load(self, ledger: Ledger) -> None:
        """Restore counters from the bucket's leader."""
        pages, stored = 0, None
        head = await self._read(subjects.checkpoint_head(self._shard))
        if head is not None:
            stored = _decoded(_decode_head, head, subjects.checkpoint_head(self._shard))
            pages = stored.pages
            self.sequence = stored.sequence
            self._ran = stored.ran_s
            ledger.restore_head(stored)
        await self._load_accounts(stored, ledger)
        # Also pages begun after this head by an owner that died before storing the next one.
        number = 0
        while await self._load_page(number, ledger) or number < pages:
            number += 1

    async def confirm(self) -> None:
        """Raise `CheckpointFenced` where the stored checkpoint is another one than was loaded or stored here.

        While it is not, nothing was trimmed that is not in it.
        """
        subject = subjects.checkpoint_head(self._shard)
        found = await last_of(self._bus, streams.CHECKPOINTS, subject)
        if (found.sequence if found is not None else 0) != self._revisions[subject]:
            raise CheckpointFenced(f"{subject} was stored by another owner")

    async def store(self, ledger: Ledger, sequence: int) -> None:
        """Store what changed as of a journal sequence.

        Raises `CheckpointFenced`, or `NoAnswer` when the broker does not answer; both leave the last
        stored checkpoint good.
        """
        changed, ran = ledger.take_changed(), ledger.ran()
        try:
            await self._settle_head()
            for number in self._in_order(self._pages.touched(changed, ledger)):
                page = self._pages.page(number, ledger, sequence)
                await self._write(subjects.checkpoint_page(self._shard, number), _encode(page))
            accounts, side, parts = await self._store_accounts(ledger)
            head = CheckpointHead(
                sequence=sequence,
                number=ledger.number,
                halted=ledger.halted,
                pages=len(self._pages),
                last_tick_at=ledger.last_tick_at,
                received=ledger.received,
                settled=sorted(ledger.settled),
                accounts=accounts,
                hours=ledger.spending.dump(),
                rolled_up=ledger.roll_ups.dump_ids(),
                roll_ups_spent=ledger.roll_ups.dump_spent(),
                roll_up_costs=ledger.roll_ups.dump_costs(),
                decisions=list(ledger.decisions.values()),
                ran_s=ran,
                folded_in=ledger.roll_ups.dump_places(),
                accounts_parts=parts,
                accounts_side=side,
            )
            await self._write(subjects.checkpoint_head(self._shard), _encode(head))
        except BusError:
            ledger.put_back_changed(changed)
            raise
        self.sequence, self._ran, self._side = sequence, ran, side

    def is_behind(self, ledger: Ledger, by_s: float | None = None) -> bool:
        """Whether idle clocks that may end somebody have run for so long since it was stored."""
        limit = CLOCKS_BEHIND_S if by_s is None else by_s
        return ledger.clocks_run and ledger.ran() - self._ran >= limit

    def _in_order(self, numbers: list[int]) -> list[int]:
        """Return pages in the order in which they are stored, so that a crash leaves no gap.

        First new ones, as loading goes on as long as there is a next page; then the others from the last to
        the first, so that a persona that has moved is on some page at any time.
        """
        known = self._revisions
        new = [n for n in numbers if not known.get(subjects.checkpoint_page(self._shard, n))]
        return new + [n for n in reversed(numbers) if n not in new]

    async def _load_accounts(self, head: CheckpointHead | None, ledger: Ledger) -> None:
        """Restore accounts from the head's parts, and learn revisions of both sets: they fence as well."""
        sets = [await self._load_parts(side) for side in (0, 1)]
        if head is None:
            return
        self._side = head.accounts_side
        if head.accounts_parts:
            data = b"".join(sets[head.accounts_side][: head.accounts_parts])
            subject = subjects.checkpoint_accounts(self._shard, head.accounts_side, 0)
            ledger.accounts.restore(_decoded(_decode_accounts, data, subject))

    async def _load_parts(self, side: int) -> list[bytes]:
        parts: list[bytes] = []
        while (data := await self._read(self._part(side, len(parts)))) is not None:
            parts.append(data)
        return parts

    async def _store_accounts(self, ledger: Ledger) -> tuple[AccountsCheckpoint | None, int, int]:
        """Return what the head is to say of accounts: themselves, or which set of how many parts has them."""
        accounts = ledger.accounts.dump(window_of(time()))
        data = _encode(accounts)
        if len(data) <= RECORD_BYTES:
            said = cast("AccountsCheckpoint", msgspec.Raw(data)) if accounts.number else None
            return said, self._side, 0
        side, places = 1 - self._side, range(0, len(data), RECORD_BYTES)
        for number, at in enumerate(places):
            await self._write(self._part(side, number), data[at : at + RECORD_BYTES])
        return None, side, len(places)

    def _part(self, side: int, number: int) -> str:
        return subjects.checkpoint_accounts(self._shard, side, number)

    async def _settle_head(self) -> None:
        """Have the head stored that may be, or not: only then it is known whose parts are in use."""
        subject = subjects.checkpoint_head(self._shard)
        if (unknown := self._unknown.get(subject)) is not None:
            await self._publish(subject, unknown)
            self._side = _decode_head(unknown).accounts_side

    async def _load_page(self, number: int, ledger: Ledger) -> bool:
        """Restore a page; whether there was one."""
        data = await self._read(subjects.checkpoint_page(self._shard, number))
        if data is None:
            return False
        page = _decoded(_decode_page, data, subjects.checkpoint_page(self._shard, number))
        for persona_id, (count, last_tick_at) in page.counters.items():
            life, mail = page.lives.get(persona_id), page.mail.get(persona_id)
            ledger.restore(persona_id, count, last_tick_at, life, mail, page.sequence)
        self._pages.restore(number, page.counters, ledger)
        return True

    async def _read(self, subject: str) -> bytes | None:
        found = await last_of(self._bus, streams.CHECKPOINTS, subject)
        self._revisions[subject] = found.sequence if found is not None else 0
        return found.data if found is not None else None

    async def _write(self, subject: str, data: bytes) -> None:
        """Write under the known revision.

        What was written last and may be stored, or not, is written once more before: its own bytes are no
        rival's.
        """
        unknown = self._unknown.get(subject, data)
        if unknown != data:
            await self._publish(subject, unknown)
        self._unknown[subject] = data
        await self._publish(subject, data)

    async def _publish(self, subject: str, data: bytes) -> None:
        """Write, until these bytes are known to be stored: another try may have stored them already."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._revisions[subject] = await self._try(subject, data)
                break
            except NoAnswer:
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(_RETRY_S)
            except TooLarge:  # it is not stored, and the next one may be smaller
                self._unknown.pop(subject, None)
                raise
        self._unknown.pop(subject, None)

    async def _try(self, subject: str, data: bytes) -> int:
        known = self._revisions.get(subject, 0)
        try:
            return await self._bus.publish(subject, data, expecting(known))
        except WrongLastSequence as error:
            found = await last_of(self._bus, streams.CHECKPOINTS, subject)
            if found is not None and found.data == data:
                return found.sequence
            if (found.sequence if found is not None else 0) == known:
                raise NoAnswer(subject, "an earlier try is still under way") from error
            raise CheckpointFenced(str(error)) from error


def _decoded(decode: Callable[[bytes], T], data: bytes, subject: str) -> T:
    try:
        return decode(data)
    except UNREADABLE as error:
        raise CheckpointUnreadable(subject, error) from error
