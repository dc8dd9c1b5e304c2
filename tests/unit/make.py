"""Instances for tests: valid, and the same each time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import msgspec

from libs.cognition.compose import Answer, compose
from libs.cognition.context import Remembered, packed
from libs.contracts.inbox import InboxItem
from libs.contracts.journal import RegistryRecord, ShardRecord, ThoughtEntry
from libs.contracts.personas import CreatePersonaRequest, PersonaPolicy
from libs.contracts.work import Chunk, ContextLine, WorkItem
from libs.roster.state import Roster
from services.registry.draft import Draft
from services.registry.rules import Decision, Rules
from services.scheduler.due import Due

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

POLICY = PersonaPolicy(
    max_spawn_depth=4,
    max_branching_factor=4,
    token_credits_per_minute=20_000,
    cpu_credits_per_minute=10_000,
    idle_ttl_secs=3600,
    share_memory=False,
)

_encode = msgspec.json.Encoder().encode


def policy(**changes: Any) -> PersonaPolicy:
    """The default policy with some fields changed."""
    return msgspec.structs.replace(POLICY, **changes)


def create(persona_id: str | None = "p", parent_id: str | None = None, **more: Any) -> CreatePersonaRequest:
    """A request to create a persona."""
    words = {"name": f"name of {persona_id}", "role": "observer", "charter": "Watch."} | more
    return CreatePersonaRequest(persona_id=persona_id, parent_id=parent_id, **words)


def rules(**changes: Any) -> Rules:
    """Rules whose clock stands still and whose ids are `id-1`, `id-2`, …"""
    numbers = count(1)
    base = Rules(
        enabled=True,
        auto_start=True,
        default_interval_ms=2000,
        default_policy=POLICY,
        now=lambda: NOW,
        new_id=lambda: f"id-{next(numbers)}",
    )
    return msgspec.structs.replace(base, **changes)


class Tree:
    """The registry's rules over a roster: every decision is folded at once, as its record."""

    def __init__(self, its_rules: Rules | None = None) -> None:
        self.rules = its_rules or rules()
        self.roster = Roster()
        self.sequence = 0
        self.log: list[tuple[int, bytes]] = []

    @property
    def view(self) -> Draft:
        return Draft(self.roster)

    def carry_out(self, decision: Decision) -> Decision:
        if decision.changes or decision.events:
            self.sequence += 1
            record = RegistryRecord(
                number=self.roster.number + 1, owner="test", changes=decision.changes, events=decision.events
            )
            self.log.append((self.sequence, _encode(record)))
            self.roster.fold(*self.log[-1])
        return decision

    def create(self, persona_id: str | None, parent_id: str | None = None, **more: Any) -> Decision:
        return self.carry_out(self.rules.create(self.view, create(persona_id, parent_id, **more)))


def line(number: int = 1) -> ContextLine:
    """A line of context."""
    return ContextLine("thought_generated", "2026-01-02T03:04:05Z", f'{{"n":{number}}}')


def lines(context: Sequence[Remembered]) -> list[ContextLine]:
    """A context as a thinker reads it."""
    return msgspec.json.decode(_encode(packed(context)), type=list[ContextLine])


def item(persona_id: str = "p", thought_count: int = 1, context: Sequence[ContextLine] = ()) -> WorkItem:
    """A thought to be thought."""
    return WorkItem(
        persona_id,
        f"name of {persona_id}",
        "observer",
        "Watch.",
        "swarm-core",
        thought_count,
        NOW + timedelta(seconds=thought_count),
        list(context),
        len(context),
    )


def thought(
    persona_id: str = "p", thought_count: int = 1, run: int = 1, text: str = "So be it."
) -> ThoughtEntry:
    """A thought as a thinker brings it to its shard's owner."""
    return compose(item(persona_id, thought_count), run, Answer(text=text, model="m"), NOW)


def shard_record(*thoughts: ThoughtEntry, number: int | None = 1, **more: Any) -> bytes:
    """A record of a shard's journal, encoded."""
    return _encode(ShardRecord(number=number, owner="owner", thoughts=list(thoughts), **more))


def chunk(chunk_id: str, *persona_ids: str, run: int = 1, thought_count: int = 1) -> Chunk:
    """Work for some personas."""
    tickets = [due(p, thought_count).ticket() for p in persona_ids]
    return Chunk(id=chunk_id, shard=0, run=run, items=tickets)


def due(persona_id: str = "p", thought_count: int = 1, charter: str = "Watch.") -> Due:
    """A thought that is due."""
    bare = msgspec.structs.replace(item(persona_id, thought_count), charter="")
    return Due(bare, charter, [])


def entry(work: Chunk, *, but: str = "") -> tuple[Chunk, list[Due]]:
    """A chunk with its thoughts, but for those of a persona, as its shard's owner enters it."""
    tickets = [ticket for ticket in work.items if ticket.persona_id != but]
    return work, [due(ticket.persona_id, ticket.thought_count) for ticket in tickets]


def inbox_item(content: str = "Is it calm?", **more: Any) -> InboxItem:
    """Something that was sent to a persona."""
    words: dict[str, Any] = {"id": "i", "persona_id": "p", "timestamp": NOW}
    return InboxItem(content=content, **(words | more))
