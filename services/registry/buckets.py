"""The roster in buckets: where it outlives the trimming of its journal, and where people can read it.

The buckets follow the journal. A value names the journal sequence that last changed it, so writing it again
is harmless and an older one never replaces a newer one, even with two registries writing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

import msgspec
import structlog

from libs.bus.connection import Bus
from libs.bus.errors import BusError, OutcomeUnknown, WrongLastSequence
from libs.bus.patience import Patience
from libs.bus.publisher import expecting
from libs.bus.read import last_of
from libs.concurrency.tasks import Tasks, leaves
from libs.concurrency.waiting import set_within
from libs.contracts import streams, subjects
from libs.contracts.journal import DependenciesSet, Reaped, Reaping, RegistryRecord, Spawned
from libs.contracts.registry import StoredLoop, StoredPersona
from libs.journal.position import PublicPosition
from libs.journal.tail import Tail
from libs.roster.state import Roster

log = structlog.get_logger("buckets")

_encode = msgspec.json.Encoder().encode


class _Sequenced(msgspec.Struct):
    sequence: int


_decode = msgspec.json.Decoder(_Sequenced).decode

_LOOK_S = 0.5
_RETRY_S = 0.2
_TRIM_AT = 96
_KEPT = 64
"""Records that stay: who was stopped for a while and follows `j.registry` need not start anew."""
_AT_ONCE = 512
"""Personas written side by side: a task each, and after an import there are many."""


class Buckets:
    """Writes changed personas and the loop's state behind the journal, then trims the journal."""

    def __init__(
        self,
        bus: Bus,
        roster: Roster,
        position: PublicPosition,
        in_charge: Callable[[], bool],
    ) -> None:
        self._bus = bus
        self._roster = roster
        self.revisions: dict[str, int] = {}
        """The last known revision of each subject."""

        self._position = position
        self._in_charge = in_charge
        self._changed: dict[str, None] = {}
        self._loop_changed = False
        self._noted = 0
        self._wake = asyncio.Event()
        self.written = 0
        """Journal sequence up to which the buckets hold everything."""

    def note(self, record: RegistryRecord, sequence: int) -> None:
        """Remember what a folded record has changed."""
        for change in record.changes:
            if isinstance(change, Spawned):
                self._changed[change.persona.identity.id] = None
            elif isinstance(change, DependenciesSet):
                self._changed[change.persona_id] = None
            elif isinstance(change, Reaping | Reaped):
                self._changed.update(dict.fromkeys(change.persona_ids))
            else:
                self._loop_changed = True
        self._noted = sequence
        self._wake.set()

    async def run(self, tail: Tail) -> None:
        """Write and trim until cancelled, while this registry is the one in charge of it."""
        while True:
            self._wake.clear()
            if self._in_charge():
                await self._write()
                await self._trim(tail)
            await set_within(self._wake, _LOOK_S if self._has_work(tail) else None)

    def _has_work(self, tail: Tail) -> bool:
        """Whether anything is to be written or trimmed, be it by this registry or another."""
        return self._is_behind() or tail.held >= _TRIM_AT

    def _is_behind(self) -> bool:
        return self._noted != self.written or bool(self._changed) or self._loop_changed

    async def _write(self) -> None:
        through, changed, loop_changed = self._noted, self._changed, self._loop_changed
        if not self._is_behind():
            return
        self._changed, self._loop_changed = {}, False
        try:
            waiting = iter(changed)
            while some := list(islice(waiting, _AT_ONCE)):
                async with Tasks() as tasks:
                    for persona_id in some:
                        tasks.create_task(self._write_persona(persona_id), name="write-persona")
            if loop_changed:
                await self._write_loop()
        except* BusError as group:
            log.warning("buckets_not_written", error=str(next(leaves(group))))
            self._changed = changed | self._changed
            self._loop_changed = self._loop_changed or loop_changed
            await asyncio.sleep(_RETRY_S)
        else:
            self.written = max(self.written, through)

    async def _write_persona(self, persona_id: str) -> None:
        def current() -> StoredPersona:
            changed_at = self._roster.changed_at(persona_id)
            return StoredPersona(sequence=changed_at, record=self._roster.personas[persona_id])

        await self._put(streams.PERSONAS, subjects.persona_key(persona_id), current)

    async def _write_loop(self) -> None:
        if (loop := self._roster.loop) is None:  # nobody knows it, see `Roster`; the next start is written
            return

        def current() -> StoredLoop:
            return StoredLoop(sequence=self._roster.loop_changed_at, loop=self._roster.loop or loop)

        await self._put(streams.CONTROL, subjects.LOOP_KEY, current)

    async def _put(
        self, stream: str, subject: str, current: Callable[[], StoredPersona | StoredLoop]
    ) -> None:
        """Write the current value, unless the bucket holds one that is as new."""
        with Patience(self._bus, f"writing {subject}") as patience:
            await self._put_patiently(stream, subject, current, patience)

    async def _put_patiently(
        self,
        stream: str,
        subject: str,
        current: Callable[[], StoredPersona | StoredLoop],
        patience: Patience,
    ) -> None:
        while True:
            value = current()
            expected = expecting(self.revisions.get(subject, 0))
            try:
                self.revisions[subject] = await self._bus.publish(subject, _encode(value), expected)
                return
            except OutcomeUnknown as error:
                await patience.pause(error)
            except WrongLastSequence:
                found = await last_of(self._bus, stream, subject)
                self.revisions[subject] = found.sequence if found is not None else 0
                if found is not None and _sequence_of(found.data) >= value.sequence:
                    return

    async def _trim(self, tail: Tail) -> None:
        if tail.held >= _TRIM_AT:
            await tail.trim(min(self.written, self._position.sequence, tail.behind(_KEPT)))


def _sequence_of(data: bytes) -> int:
    """Return the journal sequence that a value names; -1 where a person has deleted or spoilt it."""
    try:
        return _decode(data).sequence
    except msgspec.DecodeError:
        return -1
