"""What a scheduler shows of its personas: their lives, their inboxes, what they have spent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from time import time

from libs.contracts.lives import (
    InboxQuery,
    InboxReply,
    PausedFor,
    PersonaLife,
    SpendReply,
    Spent,
    SpentByPersona,
)
from libs.contracts.rollups import spender
from libs.contracts.work import Counters
from libs.roster.state import Roster
from services.scheduler.accounts import share_left, window_of
from services.scheduler.bank import limits_of
from services.scheduler.life import Life
from services.scheduler.owner import ShardOwner

NextLook = Callable[[str], datetime | None]


class Showing:
    """Reads, and changes nothing."""

    def __init__(
        self,
        roster: Roster,
        next_look: NextLook,
        waits_for: Callable[[str], list[str]],
        *,
        enforced: bool,
        wall: Callable[[], float] = time,
    ) -> None:
        """`enforced` says whether credits are, so that accounts are kept: else there is only own spending."""
        self._roster = roster
        self._next_look = next_look
        self._waits_for = waits_for
        self._enforced = enforced
        self._wall = wall

    def counters(self, owner: ShardOwner, persona_ids: list[str]) -> list[Counters]:
        """Return what the API shows of personas, in the order asked for."""
        found = owner.ledger.counters(persona_ids)
        return [
            Counters(one.thought_count, one.last_tick_at, self._life(owner, name))
            for name, one in zip(persona_ids, found, strict=True)
        ]

    def _life(self, owner: ShardOwner, persona_id: str) -> PersonaLife | None:
        """Return a persona's life as it is now; None where there is no such persona."""
        if persona_id not in self._roster.personas:
            return None
        entry, now = owner.ledger.persona(persona_id), self._wall()
        life, load = entry.life or Life(lambda: 0.0), len(entry.inbox or ())
        last = life.state.last_activity
        return PersonaLife(
            energy=round(life.state.energy_at(now), 3),
            attention=round(life.state.attention_at(now), 3),
            compute_budget=round(self._share_left(owner, persona_id, life), 3),
            mood=life.state.mood(load, now).value,
            inbox_load=load,
            response_count=life.state.response_count(now),
            last_activity_at=datetime.fromtimestamp(last, UTC) if last else None,
            next_look_at=self._next_look(persona_id),
            idle_secs=int(life.idle_s),
            tokens=life.tokens,
            cpu_ms=life.cpu_ms,
            paused=PausedFor(
                account=life.pause.account,
                credit=life.pause.credit,
                since=life.pause.since,
                resumes_at=life.pause.resumes_at,
            )
            if life.pause is not None
            else None,
            waiting_for=self._waits_for(persona_id),
        )

    def _share_left(self, owner: ShardOwner, persona_id: str, life: Life) -> float:
        """Return which part of this minute's credits a persona has left, 0 to 1 [A6].

        Where credits are enforced that is what admission goes by: reservations, and what descendants spend.
        """
        limits, minute = limits_of(self._roster, persona_id), window_of(self._wall())
        if self._enforced:
            return owner.ledger.accounts.share_left(persona_id, limits, minute)
        return share_left(limits, life.spent_in(minute))

    def inbox(self, owner: ShardOwner, query: InboxQuery, now: float) -> InboxReply:
        """Return what an inbox holds, best first."""
        inbox = owner.ledger.persona(query.persona_id).inbox
        shown = inbox.shown(now) if inbox is not None else []
        return InboxReply(items=shown[: query.limit], held=len(shown))

    def spend(self, owner: ShardOwner) -> SpendReply:
        """Return what a shard's personas, and roll-ups of its swarms, have spent."""
        personas = [
            SpentByPersona(name, Spent(life.thoughts, life.tokens, life.cpu_ms))
            for name, entry in owner.ledger.entries()
            if (life := entry.life) is not None and life.thoughts
        ]
        personas += [
            SpentByPersona(spender(swarm_id), spent)
            for swarm_id, spent in owner.ledger.roll_ups.dump_spent().items()
        ]
        return SpendReply(personas=personas, hours=owner.ledger.spending.dump())
