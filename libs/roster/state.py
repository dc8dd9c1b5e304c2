"""The roster: a pure fold of the registry's records. The registry decides on it, schedulers tick by it."""

from __future__ import annotations

from bisect import insort

import msgspec
from msgspec import structs

from libs.contracts import subjects
from libs.contracts.journal import (
    Change,
    DependenciesSet,
    IntervalSet,
    Reaped,
    Reaping,
    RegistryRecord,
    Spawned,
    Started,
    Stopped,
    Stopping,
)
from libs.contracts.limits import INTERVAL_DEFAULT_MS, SHARDS
from libs.contracts.personas import PersonaStatus
from libs.contracts.registry import LoopPhase, LoopState, PersonaRecord, ReapNote, StoredLoop, StoredPersona
from libs.contracts.tokens import shard_of
from libs.journal.tail import JournalHole

_decode = msgspec.json.Decoder(RegistryRecord).decode
_REAPED = PersonaStatus.REAPED  # looked up for each thought, which costs more than the comparison


class Roster:
    """Every persona that ever was, the tree they form, and the desired state of the loop."""

    def __init__(self) -> None:
        self.personas: dict[str, PersonaRecord] = {}
        self.children: dict[str, list[str]] = {}
        """Children by parent, sorted, reaped ones too."""

        self.living_children: dict[str, int] = {}
        """How many children of a parent are not reaped."""

        self.dependents: dict[str, set[str]] = {}
        """Who waits for a persona, reaped ones too."""

        self.born: dict[str, int] = {}
        """Journal sequence of each spawn that was folded since this process began."""

        self.active = 0
        """How many personas are active."""

        self.loop: LoopState | None = None
        self.number = 0
        """Number of the last record folded; 0 before the first."""

        self._changed_at: dict[str, int] = {}
        self._loop_at = 0
        self._ids: list[str] = []
        self._ids_sorted = True
        self._shards: list[list[str]] = [[] for _ in range(SHARDS)]

    @property
    def ids(self) -> list[str]:
        """All ids, sorted."""
        if not self._ids_sorted:
            self._ids.sort()
            self._ids_sorted = True
        return self._ids

    def in_shard(self, shard: int) -> list[str]:
        """Return the ids of a shard's personas, reaped ones too."""
        return self._shards[shard]

    def is_reaped(self, persona_id: str) -> bool:
        """Whether a persona is reaped, or was never there."""
        record = self.personas.get(persona_id)
        return record is None or record.status is _REAPED

    def swarm_of(self, persona_id: str) -> str | None:
        """Return a persona's swarm; None where it has none, or was never there."""
        record = self.personas.get(persona_id)
        return record.identity.swarm_id if record is not None else None

    def restore(self, stored: StoredPersona) -> None:
        """Take a persona from its bucket, unless a later change of it is folded already."""
        persona_id = stored.record.identity.id
        if stored.sequence > self._changed_at.get(persona_id, -1):
            self._put(stored.record, stored.sequence)

    def restore_loop(self, stored: StoredLoop) -> None:
        """Take the loop's state from its bucket, unless a later one is folded already."""
        if stored.sequence > self._loop_at:
            self.loop, self._loop_at = stored.loop, stored.sequence

    def changed_at(self, persona_id: str) -> int:
        """Return the journal sequence of a persona's last change."""
        return self._changed_at.get(persona_id, 0)

    @property
    def loop_changed_at(self) -> int:
        """Journal sequence of the loop's last change."""
        return self._loop_at

    def unannounced(self) -> list[PersonaRecord]:
        """Return the personas that are reaped while their `persona_reaped` is still to come."""
        return [record for record in self.personas.values() if record.reaping is not None]

    def fold(self, sequence: int, data: bytes) -> RegistryRecord:
        """Apply a record; changes that the buckets held already change nothing. Raises `JournalHole`."""
        record = _decode(data)
        if self.number and record.number != self.number + 1:
            raise JournalHole(subjects.JOURNAL_REGISTRY, self.number + 1, record.number)
        for change in record.changes:
            self._apply(change, sequence)
        self.number = record.number
        return record

    def pass_over(self) -> None:
        """Take the next record whatever its number: what is missing before it comes from the buckets."""
        self.number = 0

    def _apply(self, change: Change, sequence: int) -> None:
        match change:
            case Spawned(persona):
                if sequence > self._changed_at.get(persona.identity.id, -1):
                    self.born[persona.identity.id] = sequence
                    self._put(persona, sequence)
            case Reaping(persona_ids, reason, cascade, at):
                note = ReapNote(reason, cascade, at)
                for persona_id in persona_ids:
                    self._change(persona_id, sequence, PersonaStatus.REAPED, note)
            case Reaped(persona_ids):
                for persona_id in persona_ids:
                    self._change(persona_id, sequence, PersonaStatus.REAPED, None)
            case DependenciesSet(persona_id, waiting_for, at):
                if sequence > self._changed_at.get(persona_id, -1):
                    changed = structs.replace(
                        self.personas[persona_id], waiting_for=waiting_for, updated_at=at
                    )
                    self._put(changed, sequence)
            case Started() | IntervalSet() | Stopping() | Stopped():
                if sequence > self._loop_at:
                    self.loop, self._loop_at = _next_loop(self.loop, change), sequence

    def _change(
        self, persona_id: str, sequence: int, status: PersonaStatus, reaping: ReapNote | None
    ) -> None:
        if sequence <= self._changed_at.get(persona_id, -1):
            return
        record = self.personas[persona_id]
        at = reaping.at if reaping is not None else record.updated_at
        changed = structs.replace(record, status=status, reaping=reaping, updated_at=at)
        self._put(changed, sequence)

    def _put(self, record: PersonaRecord, sequence: int) -> None:
        identity = record.identity
        before = self.personas.get(identity.id)
        if before is None:
            self._ids.append(identity.id)
            self._ids_sorted = False
            self._shards[shard_of(identity.id)].append(identity.id)
            if identity.parent_id is not None:
                insort(self.children.setdefault(identity.parent_id, []), identity.id)
        self.active += _is_active(record) - _is_active(before)
        if identity.parent_id is not None:
            living = self.living_children.get(identity.parent_id, 0) + _lives(record) - _lives(before)
            self.living_children[identity.parent_id] = living
        if before is None or before.waiting_for != record.waiting_for:
            for name in before.waiting_for if before is not None else ():
                self.dependents[name].discard(identity.id)
            for name in record.waiting_for:
                self.dependents.setdefault(name, set()).add(identity.id)
        self.personas[identity.id] = record
        self._changed_at[identity.id] = sequence


def _next_loop(
    loop: LoopState | None, change: Started | IntervalSet | Stopping | Stopped
) -> LoopState | None:
    """Return the loop's state after a change; None where it cannot be known.

    It is unknown before a change where the bucket's value is spoilt and the record of the start is trimmed.
    """
    match change:
        case Started(run, interval_ms, at, chosen):
            return LoopState(
                run=run,
                phase=LoopPhase.RUNNING,
                interval_ms=interval_ms,
                started_at=at,
                interval_chosen=chosen,
            )
        case IntervalSet(interval_ms, chosen):
            if loop is None:
                return None
            return structs.replace(loop, interval_ms=interval_ms, interval_chosen=chosen)
        case Stopping(run, reason):
            return structs.replace(loop or _of_run(run), phase=LoopPhase.STOPPING, stop_reason=reason)
        case Stopped(run):
            return structs.replace(loop or _of_run(run), phase=LoopPhase.STOPPED, stop_reason=None)


def _of_run(run: int) -> LoopState:
    """Return the state of a run of which nothing else is known."""
    return LoopState(run=run, phase=LoopPhase.RUNNING, interval_ms=INTERVAL_DEFAULT_MS)


def _lives(record: PersonaRecord | None) -> bool:
    return record is not None and record.status is not PersonaStatus.REAPED


def _is_active(record: PersonaRecord | None) -> bool:
    return record is not None and record.status is PersonaStatus.ACTIVE
