"""What a scheduler shows of its personas: their lives, their inboxes, what they have spent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from time import time

from libs.contracts.accounts import Credits
from libs.contracts.lives import (
    InboxQuery,
    InboxReply,
    PausedFor,
    PersonaLife,
    SpendReply,
    Spent,
    SpentByPersona,
)
from libs.contracts.work import Counters
from libs.roster.state import Roster
from services.scheduler.accounts import window_of
from services.scheduler.bank import limits_of
from services.scheduler.inner_state import Mood
from services.scheduler.ledger import PersonaLedger
from services.scheduler.owner import ShardOwner

NextLook = Callable[[str], datetime | None]


class Showing:
    """Reads, and changes nothing."""

    def __init__(
        self,
        roster: Roster,
        next_look: NextLook,
        waits_for: Callable[[str], list[str]],
        wall: Callable[[], float] = time,
    ) -> None:
        self._roster = roster
        self._next_look = next_look
        self._waits_for = waits_for
        self._wall = wall

    def counters(self, owner: ShardOwner, persona_ids: list[str]) -> list[Counters]:
        """Return what the API shows of personas, in the order asked for."""
        found = owner.ledger.counters(persona_ids)
        return [
            Counters(one.thought_count, one.last_tick_at, self.life(name, owner.ledger.persona(name)))
            for name, one in zip(persona_ids, found, strict=True)
        ]

    def life(self, persona_id: str, entry: PersonaLedger) -> PersonaLife | None:
        """Return a persona's life as it is now; None where there is no such persona."""
        record = self._roster.personas.get(persona_id)
        if record is None:
            return None
        life, now, load = entry.life, self._wall(), len(entry.inbox or ())
        if life is None:
            return _unlived(load, self._next_look(persona_id), self._waits_for(persona_id))
        limits, spent = limits_of(self._roster, persona_id), life.spent_in(window_of(now))
        last = life.state.last_activity
        return PersonaLife(
            energy=round(life.state.energy_at(now), 3),
            attention=round(life.state.attention_at(now), 3),
            compute_budget=round(_share_left(limits, spent), 3),
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

    def inbox(self, owner: ShardOwner, query: InboxQuery, now: float) -> InboxReply:
        """Return what an inbox holds, best first."""
        inbox = owner.ledger.persona(query.persona_id).inbox
        shown = inbox.shown(now) if inbox is not None else []
        return InboxReply(items=shown[: query.limit], held=len(shown))

    def spend(self, owner: ShardOwner) -> SpendReply:
        """Return what a shard's personas have spent."""
        personas = [
            SpentByPersona(name, Spent(life.thoughts, life.tokens, life.cpu_ms))
            for name, entry in owner.ledger.entries()
            if (life := entry.life) is not None and life.thoughts
        ]
        return SpendReply(personas=personas, hours=owner.ledger.spending.dump())


def _unlived(load: int, next_look: datetime | None, waiting_for: list[str]) -> PersonaLife:
    return PersonaLife(
        energy=1.0,
        attention=1.0,
        compute_budget=1.0,
        mood=Mood.IDLE.value,
        inbox_load=load,
        response_count=0,
        last_activity_at=None,
        next_look_at=next_look,
        idle_secs=0,
        tokens=0,
        cpu_ms=0,
        waiting_for=waiting_for,
    )


def _share_left(limits: Credits, spent: Credits) -> float:
    return min(_left(limits.tokens, spent.tokens), _left(limits.cpu_ms, spent.cpu_ms))


def _left(limit: int, used: int) -> float:
    return max(limit - used, 0) / limit if limit else 0.0
