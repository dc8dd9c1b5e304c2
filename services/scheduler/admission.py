"""Who may think by its credits, and what is said of who may not [A16]."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from time import time

from libs.contracts.accounts import AccountShort, Settlement
from libs.contracts.journal import Pause, ThoughtEntry
from libs.contracts.tokens import shard_of
from libs.roster.state import Roster
from services.scheduler.account import NOTHING
from services.scheduler.accounts import WINDOW_S, window_of
from services.scheduler.bank import Bank
from services.scheduler.estimate import expected
from services.scheduler.ledger import PersonaLedger
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.notes import Note
from services.scheduler.notices import paused, resumed
from services.scheduler.owner import ShardOwner
from services.scheduler.treasury import Treasury, Want


class Admitting:
    """Asks for credits, and has personas wait that have none."""

    def __init__(
        self,
        treasury: Treasury,
        roster: Roster,
        owners: Mapping[int, ShardOwner],
        banks: Mapping[int, Bank],
        max_tokens: int,
        metrics: SchedulerMetrics,
        wall: Callable[[], float] = time,
    ) -> None:
        self._treasury = treasury
        self._roster = roster
        self._owners = owners
        self._banks = banks
        self._max_tokens = max_tokens
        self._metrics = metrics
        self._wall = wall
        self._said: dict[str, tuple[Note, Pause | None]] = {}
        """By persona, what was said of it last and is not stored yet: its pause, None where that is over."""

    def pause_of(self, persona_id: str, entry: PersonaLedger) -> float | None:
        """Return until when a persona waits for credits, in seconds of wall time; None where it does not.

        That is the present minute's end at most: the clock may have been set back since the pause began.
        """
        pause = self._pause_in(persona_id, entry)
        if pause is None:
            return None
        until = (
            pause.resumes_at.timestamp()
            if pause.resumes_at is not None
            else (window_of(pause.since.timestamp()) + 1) * WINDOW_S
        )
        now = self._wall()
        return min(until, (window_of(now) + 1) * WINDOW_S) if until > now else None

    def share_left(self, persona_id: str) -> float:
        """Return which part of this minute's credits a persona has left, 0 to 1."""
        bank = self._banks.get(shard_of(persona_id))
        return bank.share_left(persona_id) if bank is not None else 1.0

    async def admit(self, entries: dict[str, PersonaLedger]) -> list[str]:
        """Return who may think now. Others wait for credits, or for an answer about them."""
        names = [name for name in entries if name in self._roster.personas]
        wants = [self._want(name, entries[name]) for name in names]
        admitted: list[str] = []
        for name, admission in zip(names, await self._treasury.admit(wants), strict=True):
            if admission.granted:
                self._resume(name, entries[name])
                admitted.append(name)
            elif admission.short is not None:
                self._pause(name, entries[name], admission.short)
        return admitted

    async def settle(self, thought: ThoughtEntry) -> None:
        """Tell the accounts what a thought has really cost."""
        owner = self._owners.get(shard_of(thought.persona_id))
        settled = _settled(owner.ledger.persona(thought.persona_id)) if owner is not None else None
        if settled is not None:
            await self._treasury.settle(thought.persona_id, settled)

    def _want(self, persona_id: str, entry: PersonaLedger) -> Want:
        charter = self._roster.personas[persona_id].identity.charter
        least, minute = self._treasury.least_limits(persona_id), window_of(self._wall())
        cost = expected(entry, charter, self._max_tokens, least, minute)
        return Want(persona_id, entry.count + 1, cost, _settled(entry))

    def _pause_in(self, persona_id: str, entry: PersonaLedger) -> Pause | None:
        """Return a persona's pause as it was said last, be it stored or not."""
        if persona_id in self._said:
            return self._said[persona_id][1]
        return entry.life.pause if entry.life is not None else None

    def _pause(self, persona_id: str, entry: PersonaLedger, short: AccountShort) -> None:
        pause = self._pause_in(persona_id, entry)
        if pause is not None:
            return self._wait_on(persona_id, pause)
        now = datetime.fromtimestamp(self._wall(), UTC)
        ends = datetime.fromtimestamp((window_of(self._wall()) + 1) * WINDOW_S, UTC)
        for_good = short.cost > short.limit
        pause = Pause(persona_id, short.account, short.credit, now, None if for_good else ends)
        self._metrics.paused.inc()
        event = paused(self._roster.swarm_of(persona_id), pause, short)
        return self._say(persona_id, Note(pauses=[pause], events=[event]), pause)

    def _wait_on(self, persona_id: str, pause: Pause) -> None:
        """Have a persona that is paused already wait for this minute's end, too. That is not announced."""
        now = datetime.fromtimestamp(self._wall(), UTC)
        ends = datetime.fromtimestamp((window_of(self._wall()) + 1) * WINDOW_S, UTC)
        resumes = ends if pause.resumes_at is not None else None
        since = pause.since if resumes is not None else now
        again = Pause(persona_id, pause.account, pause.credit, since, resumes)
        self._say(persona_id, Note(pauses=[again]), again)

    def _resume(self, persona_id: str, entry: PersonaLedger) -> None:
        if (pause := self._pause_in(persona_id, entry)) is not None:
            event = resumed(self._roster.swarm_of(persona_id), pause)
            self._say(persona_id, Note(resumed=[persona_id], events=[event]), None)

    def _say(self, persona_id: str, note: Note, pause: Pause | None) -> None:
        """Have a note stored, and remember what it says until it is, or the shard is given up."""
        owner = self._owners.get(shard_of(persona_id))
        if owner is None:
            return

        def over(_: asyncio.Future[None]) -> None:
            if self._said.get(persona_id, (None,))[0] is note:
                del self._said[persona_id]

        self._said[persona_id] = note, pause
        owner.begin(note).add_done_callback(over)


def _settled(entry: PersonaLedger) -> Settlement | None:
    """Return what a persona's newest thought has cost; None where that is not known.

    Whose thoughts were all plain fallbacks has no life that says so, and they cost nothing.
    """
    if entry.life is not None and entry.life.thoughts:
        return entry.life.settlement
    return Settlement(entry.count, 0, NOTHING) if entry.count else None
