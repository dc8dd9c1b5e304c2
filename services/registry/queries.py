"""Reading the roster in pages: pure functions."""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice

from libs.contracts.personas import PersonaDependencies, PersonaPolicy, PersonaStatus
from libs.contracts.refusals import NotFound
from libs.contracts.registry import (
    LineageEntry,
    LineagePage,
    LineageQuery,
    LoopState,
    PersonaListQuery,
    PersonaListReply,
    PersonaRecord,
    RegistryStatus,
)
from libs.roster.state import Roster

LINEAGE_BYTES = 400 * 1024
"""What the nodes of one page of lineage weigh: with every character of an id escaped it fits a message."""

_NODE_BYTES = 32

PAGE_BYTES = 700 * 1024
"""What the records of one page may weigh, roughly, so that it fits a message."""


def persona(roster: Roster, persona_id: str) -> PersonaRecord:
    """Return a persona's record. Raises `NotFound`."""
    record = roster.personas.get(persona_id)
    if record is None:
        raise NotFound.persona(persona_id)
    return record


def dependencies(roster: Roster, persona_id: str) -> PersonaDependencies:
    """Return whom a persona waits for and which living ones wait for it. Raises `NotFound`."""
    return PersonaDependencies(
        persona_id=persona_id,
        waiting_for=persona(roster, persona_id).waiting_for,
        notify=sorted(n for n in roster.dependents.get(persona_id, ()) if not roster.is_reaped(n)),
    )


def page(roster: Roster, query: PersonaListQuery) -> PersonaListReply:
    """Return up to `limit` matching personas after an id; fewer where they would not fit a message."""
    matching = [name for name in roster.ids if _matches(roster.personas[name], query)]
    begin = bisect_right(matching, query.after) if query.after is not None else 0
    records: list[PersonaRecord] = []
    weight = 0
    for name in matching[begin : begin + query.limit]:
        record = roster.personas[name]
        weight += 1024 + 4 * len(record.identity.charter)
        if records and weight > PAGE_BYTES:
            break
        records.append(record)
    more = begin + len(records) < len(matching)
    return PersonaListReply(
        records=records,
        next_after=records[-1].identity.id if more and records else None,
        total=len(matching),
    )


def lineage_page(roster: Roster, query: LineageQuery, now_at: int) -> LineagePage:
    """Return a page of the tree as of a journal sequence, sorted by id; `now_at` is the newest one."""
    as_of = query.as_of if query.as_of is not None else now_at
    ids = roster.ids
    begin = bisect_right(ids, query.after) if query.after is not None else 0
    entries: list[LineageEntry] = []
    weight, last = 0, query.after
    for name in islice(ids, begin, None):
        if weight >= LINEAGE_BYTES:
            return LineagePage(entries=entries, as_of=as_of, next_after=last)
        if roster.born.get(name, 0) <= as_of:
            entry = _entry(roster.personas[name])
            weight += _NODE_BYTES + len(name.encode()) + len((entry.parent_id or "").encode())
            entries.append(entry)
        last = name
    return LineagePage(entries=entries, as_of=as_of, next_after=None)


def status(roster: Roster, loop: LoopState, enabled: bool, default_policy: PersonaPolicy) -> RegistryStatus:
    """Return the counts, the loop's desired state, and what holds where nobody says anything else."""
    return RegistryStatus(
        enabled=enabled,
        loop=loop,
        persona_count=len(roster.personas),
        active_persona_count=roster.active,
        default_policy=default_policy,
    )


def _matches(record: PersonaRecord, query: PersonaListQuery) -> bool:
    if query.swarm_id is not None and record.identity.swarm_id != query.swarm_id:
        return False
    return query.status is None or record.status is PersonaStatus(query.status)


def _entry(record: PersonaRecord) -> LineageEntry:
    identity = record.identity
    return LineageEntry(identity.id, identity.parent_id, identity.depth, record.status)
