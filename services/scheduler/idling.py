"""Reaping personas that have made no progress for as long as they may [A17]."""

from __future__ import annotations

import asyncio

import structlog

from libs.bus.connection import Bus
from libs.contracts import subjects
from libs.contracts.personas import ReapPersonaRequest, ReapPersonaResponse
from libs.contracts.refusals import Refusal
from libs.contracts.registry import ReapCommand
from libs.roster.state import Roster
from services.scheduler.ledger import Ledger

log = structlog.get_logger("idling")

REASON = "idle_ttl"
_WITHIN_S = 5.0


class IdleClocks:
    """Looks at the clocks of personas as they look whether they have reason to think.

    A clock stands while its persona is paused, thinks by fallback, or nobody looks: the loop is stopped, or
    its shard has no owner. See `Life.idle_s` and `RunningTime`.
    """

    def __init__(self, bus: Bus, roster: Roster, tasks: asyncio.TaskGroup) -> None:
        self._bus = bus
        self._roster = roster
        self._tasks = tasks
        self._asked: set[str] = set()

    def look(self, persona_id: str, ledger: Ledger) -> None:
        """Look at the clock of a persona of a shard: it is reaped once its time is over."""
        life, record = ledger.persona(persona_id).life, self._roster.personas.get(persona_id)
        if record is None or life is None or not life.may_idle or not record.policy.idle_ttl_secs:
            return
        ledger.clocks_run = True
        if life.idle_s >= record.policy.idle_ttl_secs and persona_id not in self._asked:
            self._asked.add(persona_id)
            self._tasks.create_task(self._reap(persona_id), name="reap-idle")

    async def _reap(self, persona_id: str) -> None:
        command = ReapCommand(persona_id=persona_id, request=ReapPersonaRequest(reason=REASON))
        try:
            await self._bus.ask(
                subjects.registry(subjects.REAP), command, ReapPersonaResponse, timeout=_WITHIN_S
            )
            log.info("reaped_idle", persona=persona_id)
        except Refusal as error:
            log.warning("not_reaped", persona=persona_id, error=str(error))
        finally:
            self._asked.discard(persona_id)
