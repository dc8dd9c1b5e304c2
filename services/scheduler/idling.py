"""Reaping personas that have made no progress for as long as they may [A17]."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import time

import structlog

from libs.bus.connection import Bus
from libs.contracts import subjects
from libs.contracts.personas import ReapPersonaRequest, ReapPersonaResponse
from libs.contracts.refusals import Refusal
from libs.contracts.registry import ReapCommand
from libs.roster.state import Roster
from services.scheduler.life import Life

log = structlog.get_logger("idling")

REASON = "idle_ttl"
_WITHIN_S = 5.0


class IdleClocks:
    """Looks at the clocks of personas as they look whether they have reason to think.

    A clock stands while its persona is paused, thinks by fallback, or nobody looks: the loop is stopped, or
    its shard has no owner. What has stood is added to the time of its last progress.
    """

    def __init__(
        self, bus: Bus, roster: Roster, tasks: asyncio.TaskGroup, wall: Callable[[], float] = time
    ) -> None:
        self._bus = bus
        self._roster = roster
        self._tasks = tasks
        self._wall = wall
        self._asked: set[str] = set()

    def look(self, persona_id: str, life: Life, seen_at: float) -> None:
        """Look at a persona's clock, last seen at a wall time in seconds; 0 where it was not seen yet.

        It is reaped once its time is over.
        """
        now = self._wall()
        if not seen_at:
            life.progress_at = max(life.progress_at, now)
        elif life.pause is not None or life.failures:
            life.progress_at += max(now - seen_at, 0.0)
        record = self._roster.personas.get(persona_id)
        if record is None or persona_id in self._asked:
            return
        ttl = record.policy.idle_ttl_secs
        if ttl and now - life.progress_at >= ttl:
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
